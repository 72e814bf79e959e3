r"""Shows a teacher's predictions for one video, with the histories and the true actions.

    avt-distill inspect_teacher soft_labels.parquet egtea --data_dir annotations/egtea --config_name split1 \
        --split validation --video OP01-R01-PastaSalad
    avt-distill inspect_teacher soft_labels.parquet my_data/ --split test --video dinner \
        --history_cutoff ended --temperature 2 --plot teacher.png

Use the data set options that the teacher was run with: files with other options are refused, since the histories shown
would not be those that the teacher read. The picture needs matplotlib: the extra `plots`.
"""

import argparse
import importlib.util
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.arguments import DatasetArguments
from ..runs.arguments import CommandParser, add_dataset_position
from ..runs.outputs import OVERWRITE, check_output, has_mark, mark_of

if TYPE_CHECKING:
    import pandas as pd

    from ..data.labels import LabelSpace


def main(argv: Sequence[str]):
    args = parse(argv)

    from ..data.loading import dataset_builder
    from ..pictures.teacher_table import draw_teacher_table
    from ..teacher.inspection import check_histories, judged, rows_of_split, rows_of_video, summary
    from ..teacher.soft_labels import SoftLabelTable

    builder = dataset_builder(args)
    space = builder.annotations.label_space
    table = SoftLabelTable.load(args.soft_labels, label_space=space)
    rows = rows_of_split(builder, args.split)
    if doubt := check_histories(table, rows, builder):
        print(f"warning: the soft labels {doubt}: make sure that the histories are the same.", file=sys.stderr)
    rows = judged(rows_of_video(rows, args.video), table, args.temperature)
    teacher = "teacher {model}: history_cutoff {history_cutoff}, tau_a {tau_a} s".format(**table.metadata)
    teacher += f", temperature {args.temperature:g}"
    print(teacher)
    print_rows(rows, space, args.history)
    print(summary(rows, args.video))
    if args.plot is not None:
        all_segments = builder.annotations.history.get(args.split, builder.annotations.splits[args.split])
        segments = all_segments[all_segments["video_id"] == args.video]
        title = [summary(rows, args.video), teacher]
        draw_teacher_table(rows, segments, space, title, args.plot, mark=mark(args))
        print(f"Picture saved to {args.plot}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("inspect_teacher", __doc__)
    parser.add_argument("soft_labels", type=Path, help="Parquet file that export_soft_labels wrote")
    add_dataset_position(parser)
    parser.add_argument("--split", required=True, help="such as train or validation")
    parser.add_argument("--video", required=True, help="its video_id")
    parser.add_argument("--temperature", type=float, default=1.0, help="temperature of the probabilities")
    parser.add_argument("--history", type=int, default=4, help="number of past actions to show")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    parser.add_fields(DatasetArguments)
    args = parser.parse(argv)
    if not 0 < args.temperature < math.inf:
        raise ValueError(f"--temperature is {args.temperature}: give a positive number.")
    if args.history < 1:
        raise ValueError(f"--history is {args.history}: give a positive number.")
    if args.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'avt-distill[plots]'.")
    inputs = {"soft_labels": args.soft_labels, "--dataset": args.dataset, "--data_dir": args.data_dir}
    inputs["--videos"] = args.videos
    made_here = has_mark(mark(args))
    check_output("--plot", args.plot, inputs, overwrite=args.overwrite, made_here=made_here, ending=".png")
    return args


def mark(args: argparse.Namespace) -> str:
    return mark_of("inspect_teacher", args.soft_labels, args.split, args.video)


def print_rows(rows: "pd.DataFrame", space: "LabelSpace", num_past: int):
    """Prints two lines per row: the true action and its history, and the teacher's best actions."""
    from ..pictures.teacher_table import name_of
    from ..teacher.inspection import verdict

    truths = [name_of(action, space) for action in rows["action"]]
    widths = [max(map(len, [*column, "truth"])) for column in (rows["uid"], truths)]
    line = f"{{:>9}}  {{:<{widths[0]}}}  {{:<10}}  {{:>5}}  {{:<{widths[1]}}}  {{}}"
    print(line.format("start", "uid", "verdict", "rank", "truth", f"past actions (the last {num_past})"))
    for row, truth in zip(rows.itertuples(), truths, strict=True):
        past = " > ".join(space.actions[action] for action in row.history[-num_past:]) or "none"
        past = f"... > {past}" if len(row.history) > num_past else past
        rank = row.rank + 1 if row.rank >= 0 else "?"
        print(line.format(f"{row.start_s:.1f} s", row.uid, verdict(row.rank), rank, truth, past))
        best = zip(row.best, row.probabilities, strict=True)
        print(f"{'':>11}{' | '.join(f'{100 * share:.1f} % {space.actions[action]}' for action, share in best)}")
