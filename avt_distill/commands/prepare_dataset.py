"""Builds the anticipation rows of a benchmark or of your own data; exports or pushes them.

    avt-distill prepare_dataset egtea --data_dir annotations/egtea --export egtea_parquet/
    avt-distill prepare_dataset my_data/ --tau_a 0.5 --num_frames 16 --push_to_hub user/my-actions --license cc-by-4.0

The export is plain Parquet, one file per split, which `datasets.load_dataset("egtea_parquet")` reads without this
project, with `labels.json` and `<split>_dropped.csv` for `avt-distill evaluate`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.arguments import DatasetArguments
from ..runs.arguments import CommandParser, add_dataset_position
from ..runs.outputs import OVERWRITE, check_output
from ..sharing.licenses import add_license_options, checked_license

if TYPE_CHECKING:
    import datasets

    from ..data.builder import AnticipationBuilder


def main(argv: Sequence[str]):
    parser = CommandParser("prepare_dataset", __doc__)
    add_dataset_position(parser)
    parser.add_argument("--export", type=Path, help="folder to write Parquet files to")
    parser.add_argument("--push_to_hub", metavar="USER/NAME", help="data set repository on the Hub")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    add_license_options(parser)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    parser.add_fields(DatasetArguments)
    args = parser.parse(argv)
    of_license = checked_license(args.license, args.license_name, args.license_link)
    if of_license and args.export is None and args.push_to_hub is None:
        raise ValueError("--license is given, but no card is written: give --export or --push_to_hub, too.")

    from ..data.loading import dataset_builder
    from ..sharing.metadata import Stated
    from ..sharing.rows import export_rows, push_rows

    stated, builder = Stated(**of_license), dataset_builder(args)
    check_export(args, list(builder.annotations.splits))
    builder.download_and_prepare()
    splits = builder.as_dataset()
    report(splits, builder)
    if args.export is not None:
        export_rows(splits, builder, args.export, overwrite=args.overwrite, stated=stated)
        print(f"exported to {args.export}")
    if args.push_to_hub is not None:
        repo_id = push_rows(splits, builder, args.push_to_hub, private=args.private, stated=stated)
        print(f"pushed to {repo_id}")


def check_export(args: argparse.Namespace, splits: list[str]):
    """Raises `ValueError` if the folder holds the data set itself, or files of another origin."""
    from ..sharing.cards import is_filled_card

    writes = [
        "README.md",
        "labels.json",
        *(f"{split}{end}" for split in splits for end in (".parquet", "_dropped.csv")),
    ]
    inputs = {"--data_dir": args.data_dir, "--dataset": args.dataset, "--videos": args.videos}
    made_here = {"made_here": lambda folder: is_filled_card(folder / "README.md"), "writes": writes}
    check_output("--export", args.export, inputs, overwrite=args.overwrite, **made_here)


def report(splits: "datasets.DatasetDict", builder: "AnticipationBuilder"):
    """Prints rows, dropped actions and unlabeled frames of each split."""
    from ..data.labels import UNLABELLED

    late = sum(map(len, builder.late.values()))
    if late:
        print(f"{late} segments end after their video: past_end is {builder.config.past_end}")
    print(f"{'split':<12} {'rows':>7} {'left out':>8} {'videos':>6} {'frames unlabelled':>18}")
    for name, rows in splits.items():
        arrays = rows.with_format("numpy")
        observed_labels = arrays["past_actions"][:][arrays["frame_mask"][:]]
        unlabelled = f"{100 * (observed_labels == UNLABELLED).mean():.1f} %"
        videos = len(set(rows["video_id"]))
        print(f"{name:<12} {len(rows):>7} {len(builder.dropped[name]):>8} {videos:>6} {unlabelled:>18}")
