"""Compares two models on the same rows: is the candidate better, and could that be chance?

    python scripts/compare_runs.py --baseline ce.parquet --candidate kd.parquet --output comparison.json
    python scripts/compare_runs.py --baseline ce_0.parquet ce_1.parquet ce_2.parquet \
        --candidate kd_0.parquet kd_1.parquet kd_2.parquet --label_space labels.json

Over rows: a paired bootstrap, of hits averaged over the seeds where there are several; for a single pair of files
McNemar's exact test of the top-k hits too. Over seeds, at least two: a Student-t interval and a sign-flip test of the
differences, the first baseline file against the first candidate file and so on.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from avt_distill.data.labels import LabelSpace
from avt_distill.metrics import label_ranks, labels_of_kind, marginal_scores
from avt_distill.scores import ScoreTable
from avt_distill.statistics import (
    class_mean,
    mcnemar_exact,
    paired_bootstrap,
    row_mean,
    sign_flip_test,
    student_t_interval,
)


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    try:
        label_space = None if args.label_space is None else LabelSpace.load(args.label_space)
        first, *others = [ScoreTable.load(path, label_space=label_space) for path in args.baseline + args.candidate]
        tables = [first, *(table.aligned_to(first) for table in others)]
        comparisons = [
            compare(kind, k, *np.split(ranks < k, 2), labels, args)
            for kind, ranks, labels in ranks_by_kind(tables, label_space)
            for k in args.ks
        ]
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    report(args, len(first.uids), [row for rows in comparisons for row in rows])


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, nargs="+", required=True, help="score files, one a seed")
    parser.add_argument("--candidate", type=Path, nargs="+", required=True, help="as many, in the order of their seeds")
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


def ranks_by_kind(tables: list[ScoreTable], label_space: LabelSpace | None):
    """Yields each kind with its label ranks, `(files, N)`, and labels `(N,)`."""
    labels = tables[0].labels
    yield "action", np.stack([label_ranks(table.scores, labels) for table in tables]), labels
    if label_space is None or label_space.action_to_verb_noun is None:
        return
    marginals = [marginal_scores(table.scores, label_space) for table in tables]
    for column, kind in enumerate(("verb", "noun")):
        kind_labels = labels_of_kind(labels, kind, label_space)
        yield kind, np.stack([label_ranks(scores[column], kind_labels) for scores in marginals]), kind_labels


def compare(kind: str, k: int, baseline: np.ndarray, candidate: np.ndarray, labels: np.ndarray, args) -> list[dict]:
    """Returns the comparisons of top-k accuracy and class-mean top-k recall, of hits `(seeds, N)`, in percent."""
    resampling = {"num_resamples": args.num_resamples, "seed": args.seed}
    metrics = {f"{kind} top-{k} accuracy": row_mean, f"{kind} class-mean top-{k} recall": class_mean(labels)}
    rows = []
    for measure, metric in metrics.items():
        over_rows = paired_bootstrap(
            baseline.mean(axis=0), candidate.mean(axis=0), metric, confidence=args.confidence, **resampling
        )
        row = {"measure": measure}
        row |= {key: value if key == "p_value" else 100 * value for key, value in asdict(over_rows).items()}
        if len(baseline) == 1 and metric is row_mean:
            row["mcnemar"] = asdict(mcnemar_exact(baseline[0], candidate[0]))
        if len(baseline) > 1:
            once = np.ones((1, len(labels)))
            by_seed = [100 * metric(hits.T.astype(float), once)[0] for hits in (baseline, candidate)]
            differences = by_seed[1] - by_seed[0]
            row["baseline_by_seed"], row["candidate_by_seed"] = (values.tolist() for values in by_seed)
            row["seeds"] = asdict(student_t_interval(differences, confidence=args.confidence))
            row["seeds"]["p_value"] = sign_flip_test(differences, **resampling)
        rows.append(row)
    return rows


def report(args: argparse.Namespace, num_rows: int, rows: list[dict]):
    """Prints a line a measure, and writes the JSON."""
    num_seeds, share = len(args.baseline), f"{100 * args.confidence:g} %"
    print(f"{num_rows} rows, {num_seeds} {'seeds' if num_seeds > 1 else 'pair of files'}; intervals of {share}")
    over_seeds = f"{'over seeds':>24}{'p':>9}" if num_seeds > 1 else f"{'McNemar p':>11}"
    print(f"{'':<32}{'baseline':>9}{'candidate':>10}{'difference':>11}{'over rows':>24}{'p':>9}{over_seeds}")
    for row in rows:
        line = "{measure:<32}{baseline:>9.2f}{candidate:>10.2f}{difference:>+11.2f}".format(**row)
        line += f"{interval(row):>24}{row['p_value']:>9.4f}"
        if "seeds" in row:
            line += f"{interval(row['seeds']):>24}{row['seeds']['p_value']:>9.4f}"
        if "mcnemar" in row:
            line += f"{row['mcnemar']['p_value']:>11.4f}"
        print(line)
    if args.output is not None:
        settings = {name: getattr(args, name) for name in ("num_resamples", "confidence", "seed")}
        files = {name: [str(path) for path in getattr(args, name)] for name in ("baseline", "candidate")}
        args.output.write_text(json.dumps({**files, **settings, "num_rows": num_rows, "rows": rows}, indent=1) + "\n")


def interval(result: dict) -> str:
    return "[{low:+.2f}, {high:+.2f}]".format(**result)


if __name__ == "__main__":
    main()
