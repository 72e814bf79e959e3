r"""Compares two models on the same rows, with paired tests over rows and over seeds.

    avt-distill compare_runs --baseline ce.parquet --candidate kd.parquet --output comparison.json
    avt-distill compare_runs --baseline ce_0.parquet ce_1.parquet ce_2.parquet \
        --candidate kd_0.parquet kd_1.parquet kd_2.parquet --label_space labels.json

Over rows: a paired bootstrap of hits, averaged over the seeds if there are several; for a single pair of files also
McNemar's exact test of the top-k hits. Over seeds, at least two: a Student-t interval and a sign-flip test of the
differences, the first baseline file against the first candidate file and so on; seeds that the files record must be
equal. Scores are logits: log loss, Brier score and expected calibration error are computed from their softmax. Rows of
one video are not independent: `--by_video` resamples whole videos instead, if score files have a column `video_id`,
which this version writes. For the folds of a cross-validation, `--pool_folds` first concatenates the rows of all files
of one seed.

    avt-distill compare_runs --pool_folds --baseline runs/fold*/baseline_seed*/scores_test.parquet \
        --candidate runs/fold*/distilled_seed*/scores_test.parquet
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import CommandParser
from ..runs.outputs import OVERWRITE, check_output, is_json_with


def main(argv: Sequence[str]):
    args = parse(argv)

    from ..data.labels import LabelSpace
    from ..evaluation.comparison import (
        calibration_text,
        compare_calibration,
        compare_tables,
        comparison_text,
        pool_rows,
    )
    from ..evaluation.scores import ScoreTable
    from ..runs.folder import write_json

    settings = {name: getattr(args, name) for name in ("num_resamples", "confidence", "seed", "by_video")}
    label_space = None if args.label_space is None else LabelSpace.load(args.label_space)
    sides = [
        [ScoreTable.load(path, label_space=label_space) for path in paths] for paths in (args.baseline, args.candidate)
    ]
    if args.pool_folds:
        sides = [pool_rows(tables, paths) for tables, paths in zip(sides, (args.baseline, args.candidate), strict=True)]
    rows = compare_tables(*sides, label_space=label_space, ks=args.ks, **settings)
    calibration = compare_calibration(*sides, **settings)
    first = sides[0][0]
    num_rows, num_videos = len(first.uids), len(set(first.performances())) if args.by_video else None
    text = comparison_text(rows, num_rows, confidence=args.confidence, num_videos=num_videos)
    print(text, calibration_text(calibration, over="videos" if args.by_video else "rows"), sep="\n\n")
    if args.output is not None:
        result = {**files_of(args), **settings, "num_rows": num_rows, "rows": rows, "calibration": calibration}
        write_json(args.output, result)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("compare_runs", __doc__)
    parser.add_argument("--baseline", type=Path, nargs="+", required=True, help="score files, one per seed")
    parser.add_argument("--candidate", type=Path, nargs="+", required=True, help="as many, in the same order of seeds")
    parser.add_argument("--pool_folds", action="store_true", help="concatenate the files of each seed")
    parser.add_argument("--label_space", type=Path, help="JSON that LabelSpace.save wrote; adds verbs and nouns")
    parser.add_argument("--ks", type=int, nargs="+", default=[1, 5], help="the k of top-k")
    parser.add_argument(
        "--num_resamples", type=int, default=10_000, help="number of resamples of bootstrap and sign flips"
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="confidence of the intervals")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples")
    parser.add_argument("--by_video", action="store_true", help="resample whole videos; all cameras count as one")
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    args = parser.parse(argv)
    if len(args.baseline) != len(args.candidate):
        raise ValueError(
            f"There are {len(args.baseline)} baseline and {len(args.candidate)} candidate files: give equal numbers."
        )
    # One file without seeds, such as a probe's, may be the baseline of several candidates.
    pairs = [(first.resolve(), second.resolve()) for first, second in zip(args.baseline, args.candidate, strict=True)]
    if repeated := next((pair for pair in pairs if pairs.count(pair) > 1), None):
        raise ValueError(
            f"{repeated[0]} and {repeated[1]} are compared more than once: give each pair once; otherwise one seed "
            "would count as several that agree."
        )
    inputs = {"--baseline": args.baseline, "--candidate": args.candidate, "--label_space": args.label_space}
    made_here = is_json_with("num_rows", "rows", **files_of(args))
    check_output("--output", args.output, inputs, overwrite=args.overwrite, made_here=made_here)
    return args


def files_of(args: argparse.Namespace) -> dict[str, list[str]]:
    return {name: [str(path) for path in getattr(args, name)] for name in ("baseline", "candidate")}
