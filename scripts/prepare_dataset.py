"""Builds the anticipation rows of a benchmark or of your own data, and exports or pushes them.

    python scripts/prepare_dataset.py egtea --data_dir annotations/egtea --export egtea_parquet/
    python scripts/prepare_dataset.py my_data/ --set tau_a=0.5 num_frames=16 --push_to_hub user/my-actions

The export is plain Parquet, a file a split, that `datasets.load_dataset("egtea_parquet")` reads anywhere, with
`labels.json` and `<split>_dropped.csv` for `scripts/evaluate.py`.
"""

import argparse
import sys
from pathlib import Path

import datasets
import yaml

from avt_distill.data.builder import AnticipationBuilder
from avt_distill.data.command_line import add_dataset_arguments, dataset_builder


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    try:
        builder = dataset_builder(args)
        builder.download_and_prepare()
    except (ValueError, TypeError) as error:
        sys.exit(f"error: {error}")
    splits = builder.as_dataset()
    report(splits, builder)
    if args.export is not None:
        export(splits, builder, args.export)
    if args.push_to_hub is not None:
        splits.push_to_hub(args.push_to_hub, config_name=args.config_name or "default", private=args.private)
        print(f"pushed to {args.push_to_hub}")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset_arguments(parser)
    parser.add_argument("--export", type=Path, help="folder to write Parquet files to")
    parser.add_argument("--push_to_hub", metavar="USER/NAME", help="data set repository on the Hub")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    return parser.parse_args(arguments)


def export(splits: datasets.DatasetDict, builder: AnticipationBuilder, folder: Path):
    """Writes one Parquet file a split, each under a temporary name until it is whole, and what evaluation needs.

    `labels.json` is the label space; `<split>_dropped.csv` names the actions without a row, `uid,action id`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    builder.annotations.label_space.save(folder / "labels.json")
    for name, uids in builder.dropped.items():
        actions = builder.annotations.splits[name].set_index("uid")["action"]
        (folder / f"{name}_dropped.csv").write_text("".join(f"{uid},{actions[uid]}\n" for uid in uids))
    # Names the splits' files, so that those beside them are not taken for data.
    files = [{"split": name, "path": f"{name}.parquet"} for name in splits]
    header = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]}, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{header}---\n")
    for name, rows in splits.items():
        unfinished = folder / f"{name}.parquet.unfinished"
        rows.to_parquet(unfinished)
        unfinished.replace(folder / f"{name}.parquet")
    print(f"written to {folder}")


def report(splits: datasets.DatasetDict, builder: AnticipationBuilder):
    """Prints rows, dropped actions and unlabelled frames of each split."""
    print(f"{'split':<12} {'rows':>7} {'left out':>8} {'videos':>6} {'frames unlabelled':>18}")
    for name, rows in splits.items():
        arrays = rows.with_format("numpy")
        seen = arrays["past_actions"][:][arrays["frame_mask"][:]]
        unlabelled = f"{100 * (seen == -100).mean():.1f} %"
        videos = len(set(rows["video_id"]))
        print(f"{name:<12} {len(rows):>7} {len(builder.dropped[name]):>8} {videos:>6} {unlabelled:>18}")


if __name__ == "__main__":
    main()
