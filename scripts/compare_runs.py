"""Compares two models on the same rows: is the candidate better, and could that be chance?

    python scripts/compare_runs.py --baseline ce.parquet --candidate kd.parquet --output comparison.json
    python scripts/compare_runs.py --baseline ce_0.parquet ce_1.parquet ce_2.parquet \
        --candidate kd_0.parquet kd_1.parquet kd_2.parquet --label_space labels.json

Over rows: a paired bootstrap, of hits averaged over the seeds where there are several; for a single pair of files
McNemar's exact test of the top-k hits too. Over seeds, at least two: a Student-t interval and a sign-flip test of the
differences, the first baseline file against the first candidate file and so on.

Folds of a cross-validation: with `--pool_folds` the rows of files that tell the same seed are put together first.

    python scripts/compare_runs.py --pool_folds --baseline runs/fold*/baseline_seed*/scores_test.parquet \
        --candidate runs/fold*/distilled_seed*/scores_test.parquet
"""

import argparse
import json
import sys
from pathlib import Path

from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.comparison import compare_tables, comparison_text, pool_rows
from avt_distill.evaluation.scores import ScoreTable


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    settings = {name: getattr(args, name) for name in ("num_resamples", "confidence", "seed")}
    try:
        label_space = None if args.label_space is None else LabelSpace.load(args.label_space)
        sides = [
            [ScoreTable.load(path, label_space=label_space) for path in paths]
            for paths in (args.baseline, args.candidate)
        ]
        if args.pool_folds:
            sides = [pool_rows(tables) for tables in sides]
        rows = compare_tables(*sides, label_space=label_space, ks=args.ks, **settings)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    num_rows = len(sides[0][0].uids)
    print(comparison_text(rows, num_rows, confidence=args.confidence))
    if args.output is not None:
        files = {name: [str(path) for path in getattr(args, name)] for name in ("baseline", "candidate")}
        args.output.write_text(json.dumps({**files, **settings, "num_rows": num_rows, "rows": rows}, indent=1) + "\n")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, nargs="+", required=True, help="score files, one a seed")
    parser.add_argument("--candidate", type=Path, nargs="+", required=True, help="as many, in the order of their seeds")
    parser.add_argument("--pool_folds", action="store_true", help="put rows of files of one seed together")
    parser.add_argument("--label_space", type=Path, help="JSON that LabelSpace.save wrote; adds verbs and nouns")
    parser.add_argument("--ks", type=int, nargs="+", default=[1, 5], help="the k of top-k")
    parser.add_argument("--num_resamples", type=int, default=10_000, help="of bootstrap and sign flips")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument("--output", type=Path, help="JSON to write")
    args = parser.parse_args(arguments)
    if len(args.baseline) != len(args.candidate):
        parser.error(f"{len(args.baseline)} baseline and {len(args.candidate)} candidate files: give as many of each")
    return args


if __name__ == "__main__":
    main()
