"""Shows what a teacher says about one video: each action's history, the teacher's five best, and the truth.

    python scripts/inspect_teacher.py soft_labels.parquet egtea --data_dir annotations/egtea --config_name split1 \
        --split validation --video OP01-R01-PastaSalad
    python scripts/inspect_teacher.py soft_labels.parquet my_data/ --split test --video dinner \
        --set history_cutoff=ended --temperature 2 --plot teacher.png

The options of the data set must be those that the teacher had: where the file says otherwise, it is refused, as the
histories shown would not be the ones that the teacher read. The picture needs matplotlib: the extra `plots`.
"""

import argparse
import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from avt_distill.data.builder import AnticipationBuilder
from avt_distill.data.command_line import add_dataset_arguments, dataset_builder
from avt_distill.data.labels import LabelSpace
from avt_distill.metrics import UNKNOWN_LABEL, label_ranks, softmax
from avt_distill.pictures.teacher_table import TOP_K, draw_teacher_table, name_of
from avt_distill.teacher.soft_labels import SoftLabelTable, rows_fingerprint


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    try:
        builder = dataset_builder(args)
        space = builder.annotations.label_space
        table = SoftLabelTable.load(args.soft_labels, label_space=space)
        rows = rows_of_split(builder, args.split)
        check_histories(table, rows, builder)
        rows = judged(rows_of_video(rows, args.video), table, args.temperature)
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
    teacher = "teacher {model}: history_cutoff {history_cutoff}, tau_a {tau_a} s".format(**table.metadata)
    teacher += f", temperature {args.temperature:g}"
    print(teacher)
    print_rows(rows, space, args.history)
    print(summary(rows, args.video))
    if args.plot is not None:
        all_segments = builder.annotations.history.get(args.split, builder.annotations.splits[args.split])
        segments = all_segments[all_segments["video_id"] == args.video]
        draw_teacher_table(rows, segments, space, [summary(rows, args.video), teacher], args.plot)
        print(f"drawn to {args.plot}")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("soft_labels", type=Path, help="Parquet file that SoftLabelTable.save wrote")
    add_dataset_arguments(parser)
    parser.add_argument("--split", required=True, help="such as train or validation")
    parser.add_argument("--video", required=True, help="its video_id")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the probabilities")
    parser.add_argument("--history", type=int, default=4, help="how many of the last past actions are shown")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    args = parser.parse_args(arguments)
    if not 0 < args.temperature < math.inf:
        parser.error(f"--temperature is {args.temperature}: give a positive number")
    if args.history < 1:
        parser.error(f"--history is {args.history}: give a positive number")
    if args.plot is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'avt-distill[plots]'")
    return args


def rows_of_split(builder: AnticipationBuilder, split: str) -> pd.DataFrame:
    if split not in builder.annotations.splits:
        raise ValueError(f"There is no split '{split}': give one of {list(builder.annotations.splits)}.")
    return builder.rows(split)


def rows_of_video(rows: pd.DataFrame, video_id: str) -> pd.DataFrame:
    """Returns the rows of a video in the order in which its actions start."""
    videos = sorted(set(rows["video_id"]))
    if video_id not in videos:
        raise ValueError(
            f"The split has no row of a video '{video_id}': give one of its {len(videos)}, such as {videos[:5]}."
        )
    return rows[rows["video_id"] == video_id].sort_values("start_s", kind="stable").reset_index(drop=True)


def check_histories(table: SoftLabelTable, rows: pd.DataFrame, builder: AnticipationBuilder):
    """Refuses a table whose teacher read other histories than the rows have; warns where that cannot be known."""
    harm = "otherwise the histories shown are not those that the teacher read"
    ours = {"history_cutoff": builder.config.history_cutoff, "tau_a": str(float(builder.config.tau_a))}
    for name, value in ours.items():
        if table.metadata[name] != value:
            theirs = table.metadata[name]
            raise ValueError(f"The soft labels have {name} {theirs}, the rows {value}: --set {name}={theirs}; {harm}.")
    labelled = table.metadata.get("labelled")
    if not labelled or set(table.uids) != set(rows["uid"]):
        reason = "cover other rows than the split" if labelled else "do not say which rows they are of"
        print(f"warning: the soft labels {reason}: check yourself that the histories are the same.", file=sys.stderr)
    elif labelled != rows_fingerprint(rows):
        raise ValueError(
            f"The soft labels are of rows {labelled}, not of {rows_fingerprint(rows)}, which have other actions or "
            f"histories: give the annotations, --config_name and --set that the teacher had; {harm}."
        )


def judged(rows: pd.DataFrame, table: SoftLabelTable, temperature: float) -> pd.DataFrame:
    """Returns the rows with `best`, `probabilities` (arrays of `TOP_K`) and `rank` (from 0; -1: unlabelled)."""
    logits, _ = table.select(rows["uid"])
    probabilities = softmax(logits / np.float64(temperature))
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
    labels = rows["action"].to_numpy()
    known = labels != UNKNOWN_LABEL
    ranks = np.full(len(rows), -1)
    ranks[known] = label_ranks(logits[known], labels[known]) if known.any() else ()
    return rows.assign(best=list(best), probabilities=list(np.take_along_axis(probabilities, best, 1)), rank=ranks)


def verdict(rank: int) -> str:
    return "unlabelled" if rank < 0 else "top 1" if rank == 0 else f"top {TOP_K}" if rank < TOP_K else "miss"


def print_rows(rows: pd.DataFrame, space: LabelSpace, num_past: int):
    """Prints two lines a row: the truth and what was before it, and the teacher's best."""
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


def summary(rows: pd.DataFrame, video_id: str) -> str:
    ranks = rows["rank"][rows["rank"] >= 0]
    counts = f"{video_id}: {len(rows)} rows"
    if len(ranks) < len(rows):
        counts += f", {len(rows) - len(ranks)} unlabelled"
    if ranks.empty:
        return counts
    return f"{counts}, top-1 {100 * (ranks < 1).mean():.1f} %, top-{TOP_K} {100 * (ranks < TOP_K).mean():.1f} %"


if __name__ == "__main__":
    main()
