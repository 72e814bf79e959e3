"""Comparison of a baseline and a candidate on the same rows: metrics, intervals and p-values from score tables."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.labels import LabelSpace
from ..metrics import (
    label_ranks,
    labels_of_kind,
    marginal_scores,
    row_brier_scores,
    row_calibration_gaps,
    row_log_losses,
)
from .scores import ScoreTable
from .statistics import (
    ResampledMetric,
    calibration_error,
    class_mean,
    mcnemar_exact,
    paired_bootstrap,
    row_mean,
    sign_flip_test,
    student_t_interval,
)
from .uid_tables import LABEL_SPACE_HASH


def compare_tables(
    baseline: Sequence[ScoreTable],
    candidate: Sequence[ScoreTable],
    *,
    label_space: LabelSpace | None = None,
    ks: Sequence[int] = (1, 5),
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    by_video: bool = False,
) -> list[dict]:
    """Returns one comparison per measure: top-k accuracy and class-mean top-k recall, in percent.

    Over rows: a paired bootstrap of hits, averaged over the seeds if there are several; for a single pair also
    McNemar's exact test of the top-k hits. Over seeds, at least two: a Student-t interval and a sign-flip test of
    the
    differences, the first baseline against the first candidate and so on.

    Args:
        baseline, candidate (sequence of `ScoreTable`): One table per seed, all of the same rows.
        label_space (`LabelSpace`, *optional*): The label space of the scores; adds verbs and nouns.
        ks (sequence of `int`, *optional*, defaults to `(1, 5)`): The k of top-k.
        num_resamples (`int`, *optional*, defaults to 10000): Number of resamples of bootstrap and sign flips.
        confidence (`float`, *optional*, defaults to 0.95): Confidence of the intervals.
        seed (`int`, *optional*, defaults to 0): Seed of the resamples.
        by_video (`bool`, *optional*, defaults to `False`): Whether to resample whole videos instead of rows, with all
            cameras of one performance together, since rows of one video are not independent. McNemar's test, which
            counts single rows, is then omitted.

    Returns:
        `list[dict]`: `measure`, the fields of `PairedBootstrap` and, where applicable, `mcnemar`, `seeds`,
        `baseline_by_seed` and `candidate_by_seed`.

    Raises:
        ValueError: If the numbers of baselines and candidates differ, or the seeds in the metadata of several do, the
            tables have different rows, a k is below 1, the seed is below 0, or `by_video` is set and the first baseline
            has no videos.
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"ks is {tuple(ks)}: give at least one positive number.")
    tables = _aligned(baseline, candidate, seed)
    resampling = {"num_resamples": num_resamples, "seed": seed}
    groups = np.asarray(tables[0].performances()) if by_video else None
    return [
        row
        for kind, ranks, labels in _ranks_by_kind(tables, label_space)
        for k in ks
        for row in _compare(kind, k, ranks < k, labels, confidence, resampling, groups)
    ]


def compare_calibration(
    baseline: Sequence[ScoreTable],
    candidate: Sequence[ScoreTable],
    *,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    by_video: bool = False,
) -> list[dict]:
    """Returns one comparison for each of log loss in nats, Brier score, and expected calibration error in percent.

    They are computed from the probabilities of actions; lower is better. Over rows: a paired bootstrap of the average
    over the seeds. Over seeds, at least two: as `compare_tables`.

    Args:
        baseline, candidate (sequence of `ScoreTable`): One table per seed, all of the same rows; their scores are
            logits.
        num_resamples, confidence, seed, by_video: As for `compare_tables`.

    Returns:
        `list[dict]`: As `compare_tables`, without `mcnemar`.

    Raises:
        ValueError: See `compare_tables`.
    """
    tables = _aligned(baseline, candidate, seed)
    labels = tables[0].labels
    gaps, bins = zip(*(row_calibration_gaps(table.scores, labels) for table in tables), strict=True)
    values: dict[str, tuple[float, list[np.ndarray], ResampledMetric]] = {
        "log loss": (1, [row_log_losses(table.scores, labels) for table in tables], row_mean),
        "Brier score": (1, [row_brier_scores(table.scores, labels) for table in tables], row_mean),
        "expected calibration error": (100, list(gaps), calibration_error(np.stack(bins, axis=1))),
    }
    resampling: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    groups = np.asarray(tables[0].performances()) if by_video else None
    rows = []
    for measure, (unit, by_table, metric) in values.items():
        columns = np.stack(by_table, axis=1)  # (N, 2 * seeds)
        sides = columns[:, : len(baseline)], columns[:, len(baseline) :]
        over_rows = paired_bootstrap(*sides, metric, groups=groups, confidence=confidence, **resampling)
        row = {"measure": measure, **_in_units(asdict(over_rows), unit)}
        if len(baseline) > 1:
            by_seed = unit * metric(columns, np.ones((1, len(labels))))[0]
            row |= _over_seeds(by_seed[: len(baseline)], by_seed[len(baseline) :], confidence, resampling)
        rows.append(row)
    return rows


def pool_rows(tables: Sequence[ScoreTable], sources: Sequence[str | Path] | None = None) -> list[ScoreTable]:
    """Concatenates the tables of each `seed` in the metadata, such as the folds of a cross-validation.

    The result is ordered by seed. Metadata on which the tables of a seed disagree are dropped.

    Args:
        tables (sequence of `ScoreTable`): The tables, all of one label space.
        sources (sequence of `str` or `Path`, *optional*): The file of each table, for messages. Default: numbers.

    Raises:
        ValueError: If a table has no seed, the tables have several label spaces, or a row occurs twice.
    """
    names = [f"table {number}" for number in range(len(tables))] if sources is None else sources
    by_seed: dict[int, list[ScoreTable]] = {}
    for name, table in zip(names, tables, strict=True):
        spaces = [(one.metadata.get(LABEL_SPACE_HASH), one.scores.shape[1]) for one in (tables[0], table)]
        if spaces[0] != spaces[1]:
            raise ValueError(
                f"{names[0]} is of label space {spaces[0][0]} with {spaces[0][1]} actions, but {name} is of "
                f"{spaces[1][0]} with {spaces[1][1]}: pool folds of one label space; otherwise one column would stand "
                "for several actions."
            )
        if "seed" not in table.metadata:
            raise ValueError(
                "A score table has no seed in its metadata, so folds cannot be pooled: give tables written by "
                "avt-distill distill or fit_reader."
            )
        by_seed.setdefault(int(table.metadata["seed"]), []).append(table)
    pooled = []
    for _, members in sorted(by_seed.items()):
        shared = set.intersection(*(set(table.metadata.items()) for table in members))
        pooled.append(
            ScoreTable(
                [uid for table in members for uid in table.uids],
                np.concatenate([table.scores for table in members]),
                np.concatenate([table.labels for table in members]),
                dict(shared),
                _pooled_videos(members),
            )
        )
    return pooled


def _pooled_videos(tables: Sequence[ScoreTable]) -> list[str] | None:
    of_tables = [table.video_ids for table in tables]
    known = [video_ids for video_ids in of_tables if video_ids is not None]
    return [video_id for video_ids in known for video_id in video_ids] if len(known) == len(of_tables) else None


def comparison_text(
    rows: Sequence[dict], num_rows: int, *, confidence: float = 0.95, num_videos: int | None = None
) -> str:
    """Returns the result of `compare_tables` as a text table, one line per measure.

    Args:
        rows (sequence of `dict`): The comparisons.
        num_rows (`int`): Number of rows that were compared.
        confidence (`float`, *optional*, defaults to 0.95): Confidence of the intervals.
        num_videos (`int`, *optional*): Number of videos, if whole videos were resampled.
    """
    num_seeds = len(rows[0].get("baseline_by_seed", [None]))
    pairs = f"{num_seeds} seeds" if num_seeds > 1 else "1 pair of files"
    of_videos = "" if num_videos is None else f" of {num_videos} videos"
    table = _table(rows, 2, "rows" if num_videos is None else "videos")
    return f"{num_rows} rows{of_videos}, {pairs}; intervals of {100 * confidence:g} %\n{table}"


def calibration_text(rows: Sequence[dict], *, over: str = "rows") -> str:
    """Returns the result of `compare_calibration` as a text table, one line per measure; `over`: what was resampled."""
    return f"Probabilities, lower is better; log loss in nats, calibration error in %\n{_table(rows, 3, over)}"


def _aligned(baseline: Sequence[ScoreTable], candidate: Sequence[ScoreTable], seed: int) -> list[ScoreTable]:
    """Returns the tables of both, rows in the order of the first; raises `ValueError` if numbers or seeds differ."""
    if len(baseline) != len(candidate) or not baseline:
        raise ValueError(f"There are {len(baseline)} baselines and {len(candidate)} candidates: give equal numbers.")
    if seed < 0:
        raise ValueError(f"seed is {seed}: give 0 or a positive number.")
    seeds = [[table.metadata.get("seed") for table in tables] for tables in (baseline, candidate)]
    if len(baseline) > 1 and None not in seeds[0] + seeds[1] and seeds[0] != seeds[1]:
        raise ValueError(
            f"The baselines have the seeds {', '.join(map(str, seeds[0]))} and the candidates "
            f"{', '.join(map(str, seeds[1]))}: give files of the same seeds in the same order, since they are paired."
        )
    first, *others = [*baseline, *candidate]
    return [first, *(table.aligned_to(first) for table in others)]


def _ranks_by_kind(
    tables: list[ScoreTable], label_space: LabelSpace | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields each kind with its label ranks, `(tables, N)`, and labels `(N,)`."""
    labels = tables[0].labels
    yield "action", np.stack([label_ranks(table.scores, labels) for table in tables]), labels
    if label_space is None or label_space.action_to_verb_noun is None:
        return
    marginals = [marginal_scores(table.scores, label_space) for table in tables]
    for column, kind in enumerate(("verb", "noun")):
        kind_labels = labels_of_kind(labels, kind, label_space)
        yield kind, np.stack([label_ranks(scores[column], kind_labels) for scores in marginals]), kind_labels


def _compare(
    kind: str,
    k: int,
    hits: np.ndarray,
    labels: np.ndarray,
    confidence: float,
    resampling: dict,
    groups: np.ndarray | None,
) -> list[dict]:
    """Returns the comparisons of top-k accuracy and class-mean top-k recall, in percent, of hits `(2 * seeds, N)`: the
    baselines', then the candidates'."""
    baseline, candidate = np.split(hits, 2)
    metrics = {f"{kind} top-{k} accuracy": row_mean, f"{kind} class-mean top-{k} recall": class_mean(labels)}
    rows = []
    for measure, metric in metrics.items():
        means = baseline.mean(axis=0), candidate.mean(axis=0)
        over_rows = paired_bootstrap(*means, metric, groups=groups, confidence=confidence, **resampling)
        row: dict[str, Any] = {"measure": measure}
        row |= _in_units(asdict(over_rows), 100)
        if len(baseline) == 1 and metric is row_mean and groups is None:
            row["mcnemar"] = asdict(mcnemar_exact(baseline[0], candidate[0]))
        if len(baseline) > 1:
            once = np.ones((1, len(labels)))
            by_seed = [100 * metric(hits.T.astype(float), once)[0] for hits in (baseline, candidate)]
            row |= _over_seeds(by_seed[0], by_seed[1], confidence, resampling)
        rows.append(row)
    return rows


def _in_units(result: dict[str, float], unit: float) -> dict[str, float]:
    """Returns the result of a bootstrap multiplied by `unit`, except for its p-value."""
    return {key: value if key == "p_value" else unit * value for key, value in result.items()}


def _over_seeds(baseline: np.ndarray, candidate: np.ndarray, confidence: float, resampling: dict) -> dict[str, Any]:
    """Returns the fields that a comparison over at least two seeds adds."""
    differences = candidate - baseline
    interval = asdict(student_t_interval(differences, confidence=confidence))
    interval["p_value"] = sign_flip_test(differences, **resampling)
    return {"baseline_by_seed": baseline.tolist(), "candidate_by_seed": candidate.tolist(), "seeds": interval}


def _table(rows: Sequence[dict], decimals: int, over: str) -> str:
    """Returns comparisons as a text table, one line per measure; `over`: what was resampled."""
    num_seeds = len(rows[0].get("baseline_by_seed", [None]))
    columns = ["baseline", "candidate", "difference", f"over {over}", "p"]
    columns += ["over seeds", "p"] if num_seeds > 1 else ["McNemar p"] * any("mcnemar" in row for row in rows)
    lines = []
    for row in rows:
        line = [
            row["baseline"],
            row["candidate"],
            f"{row['difference']:+.{decimals}f}",
            *_interval_and_p(row, decimals),
        ]
        if num_seeds > 1:
            line += _interval_and_p(row["seeds"], decimals)
        else:
            line.append("{p_value:.4f}".format(**row["mcnemar"]) if "mcnemar" in row else "")
        lines.append(line[: len(columns)])
    table = pd.DataFrame(lines, index=[row["measure"] for row in rows], columns=columns)
    return table.to_string(float_format=f"%.{decimals}f")


def _interval_and_p(result: dict, decimals: int) -> list[str]:
    return [f"[{result['low']:+.{decimals}f}, {result['high']:+.{decimals}f}]", f"{result['p_value']:.4f}"]
