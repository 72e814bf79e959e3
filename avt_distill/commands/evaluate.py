r"""Measures score files, and writes challenge submissions from them.

    avt-distill evaluate scores.parquet --label_space labels.json --tail tail.json --unseen unseen_uids.txt \
        --output metrics.json
    avt-distill evaluate scores.parquet --label_space labels.json --tail EPIC_100_tail_verbs.csv EPIC_100_tail_nouns.csv
    avt-distill evaluate rgb.parquet flow.parquet --weights 1 0.5 --label_space labels.json \
        --challenge ek100 --sls 1 4 3 --submission submission.json

Several score files are late-fused: logits of actions are summed, and so are probabilities of verbs and nouns. Log loss,
Brier score and expected calibration error refer to the probabilities of actions, without dropped rows.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..runs.arguments import CommandParser
from ..runs.outputs import OVERWRITE, check_different, check_output, is_json_with

if TYPE_CHECKING:
    from ..data.labels import LabelSpace
    from ..evaluation.scores import ScoreTable


def main(argv: Sequence[str]):
    args = parse(argv)

    from ..data.labels import UNLABELLED, LabelSpace
    from ..evaluation.challenge import build_submission
    from ..evaluation.groups import read_dropped
    from ..evaluation.scores import ScoreTable
    from ..evaluation.uid_tables import note_on_uids
    from ..metrics import late_fuse_kinds
    from ..runs.folder import write_text

    label_space = None if args.label_space is None else LabelSpace.load(args.label_space)
    table, *others = [ScoreTable.load(path, label_space=label_space) for path in args.scores]
    models = [table.scores, *(other.aligned_to(table).scores for other in others)]
    scores = late_fuse_kinds(models, args.weights, label_space=label_space)
    dropped = read_dropped(args.dropped)
    if both := sorted(set(dropped) & set(table.uids)):
        raise ValueError(f"{args.dropped} has '{both[0]}', which has scores: remove scored rows from it.")
    if note := note_on_uids(dropped, table.uids):
        raise ValueError(
            f"{args.dropped} and {args.scores[0]} name rows differently: use the uids of one data set in both{note}."
        )
    result = None
    if args.submission is None or (table.labels != UNLABELLED).any():
        result = measure(args, table, scores, dropped, label_space)
    else:
        refuse_unmeasured(args)
    if args.submission is not None:
        submission = build_submission(
            args.challenge, table.uids, label_space=label_space, sls=args.sls, dropped_uids=list(dropped), **scores
        )
        write_text(args.submission, json.dumps(submission))
    if result is not None:
        report(args, result)


def refuse_unmeasured(args: argparse.Namespace):
    """Raises a `ValueError` if metric options are given but no row has a label."""
    for name in ("many_shot", "tail", "unseen", "output", "per_class"):
        if getattr(args, name):
            raise ValueError(f"--{name} is given, but no row of {args.scores[0]} has a label to measure: leave it out.")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("evaluate", __doc__)
    parser.add_argument("scores", type=Path, nargs="+", help="score files of one split, as ScoreTable.save writes them")
    parser.add_argument("--weights", type=float, nargs="+", help="one per score file; default: 1 each")
    parser.add_argument("--label_space", type=Path, help="JSON that LabelSpace.save wrote; adds verbs, nouns and names")
    ids = "class ids: CSV of the benchmark, one action id per line, or JSON, a list or {'action': [...], 'verb': [...]}"
    parser.add_argument("--many_shot", type=Path, nargs="+", help=f"{ids}; of verbs and of nouns: actions of both")
    parser.add_argument("--tail", type=Path, nargs="+", help=f"{ids}; of verbs and of nouns: actions of either")
    parser.add_argument(
        "--unseen",
        type=Path,
        help="uids of rows of unseen participants, one per line, or EPIC-Kitchens' file with a column participant_id",
    )
    parser.add_argument(
        "--dropped", type=Path, help="uid,action id (-100: a test split) of rows without scores, one per line"
    )
    parser.add_argument("--skip_unlabelled", action="store_true", help="leave out rows labeled -100, and count them")
    parser.add_argument("--ks", type=int, nargs="+", default=[1, 5], help="the k of top-k")
    parser.add_argument("--per_class", action="store_true", help="add the recalls of each action to the output")
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--challenge", choices=("ek55", "ek100"), help="format of the submission")
    parser.add_argument("--submission", type=Path, help="submission JSON to write")
    parser.add_argument("--sls", type=int, nargs=3, metavar=("PT", "TL", "TD"), help="supervision levels, 0 to 5 each")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    args = parser.parse(argv)
    if args.submission is not None and (args.challenge is None or args.label_space is None):
        raise ValueError("--submission is given without --challenge or --label_space: give both.")
    for name, file in (("challenge", "submission"), ("sls", "submission"), ("per_class", "output")):
        if getattr(args, name) and getattr(args, file) is None:
            raise ValueError(f"--{name} is given without --{file}: give the file to write, or leave it out.")
    check_different({"--output": args.output, "--submission": args.submission})
    read = ("label_space", "many_shot", "tail", "unseen", "dropped")
    inputs = {"scores": args.scores, **{f"--{name}": getattr(args, name) for name in read}}
    results = is_json_with("num_rows", "metrics", scores=[str(path) for path in args.scores])
    check_output("--output", args.output, inputs, overwrite=args.overwrite, made_here=results)
    submission = is_json_with("challenge", "results", "version")
    check_output("--submission", args.submission, inputs, overwrite=args.overwrite, made_here=submission)
    return args


def measure(
    args: argparse.Namespace, table: "ScoreTable", scores: dict, dropped: dict, label_space: "LabelSpace | None"
) -> dict:
    """Returns the content of `--output`; metrics of a group without rows are NaN."""
    from ..data.labels import UNLABELLED
    from ..evaluation.groups import read_class_ids, read_unseen
    from ..metrics import anticipation_metrics, calibration_metrics, per_class_table

    many_shot = read_class_ids(args.many_shot, label_space, rule="and")  # as EPIC-Kitchens-55's own list
    tail = read_class_ids(args.tail, label_space, rule="or")  # as EPIC-Kitchens-100's evaluation
    dropped_labels = np.array(list(dropped.values()), dtype=np.int64)
    if unlabelled := 0 if args.skip_unlabelled else int(np.count_nonzero(dropped_labels == UNLABELLED)):
        raise ValueError(
            f"{args.dropped} has {unlabelled} rows of {UNLABELLED}, an unknown label: give --skip_unlabelled to leave "
            "them out, or leave out --dropped."
        )
    rows, kept_dropped = (
        of != UNLABELLED if args.skip_unlabelled else np.ones(len(of), dtype=bool)
        for of in (table.labels, dropped_labels)
    )
    scores, labels = {name: kind_scores[rows] for name, kind_scores in scores.items()}, table.labels[rows]
    dropped_labels = dropped_labels[kept_dropped]
    options = {"label_space": label_space, "many_shot": many_shot, "tail": tail}
    if args.unseen is not None:
        unseen = read_unseen(args.unseen, [*table.uids, *dropped])
        options["unseen_mask"] = unseen[np.append(rows, kept_dropped)]
    metrics = anticipation_metrics(labels=labels, dropped_labels=dropped_labels, ks=args.ks, **options, **scores)
    result = {"scores": [str(path) for path in args.scores], "num_rows": len(labels)}
    result |= {"num_dropped": len(dropped_labels), "num_unlabelled": int(np.sum(~rows) + np.sum(~kept_dropped))}
    if args.per_class:
        names = None if label_space is None else label_space.actions
        counted = {"ks": args.ks, "dropped_labels": dropped_labels}
        result["per_class"] = per_class_table(scores["scores"], labels, names=names, **counted)
    return {**result, "metrics": metrics, "calibration": calibration_metrics(scores["scores"], labels)}


def report(args: argparse.Namespace, result: dict):
    """Prints the metrics, and writes the JSON, in which metrics of a group without rows are null."""
    from ..metrics import metrics_table
    from ..runs.folder import write_json

    counts = "{num_rows} rows, {num_dropped} dropped that count as errors, {num_unlabelled} without a label left out"
    calibration = (
        "log loss {log_loss:.3f} nats, Brier score {brier_score:.3f}, expected calibration error "
        "{expected_calibration_error:.2f} %"
    )
    print(counts.format(**result), metrics_table(result["metrics"]), sep="\n")
    print(calibration.format(**result["calibration"]))
    if args.output is not None:
        metrics = {name: None if math.isnan(value) else value for name, value in result["metrics"].items()}
        write_json(args.output, {**result, "metrics": metrics})
