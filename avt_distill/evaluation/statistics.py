"""Paired tests of whether one model is better than another, over rows and over seeds.

There are two sources of chance, with different tests. Over rows, would other videos give the same result? Use
`paired_bootstrap` and `mcnemar_exact`. Over seeds, would training again? Use `sign_flip_test` and `student_t_interval`.
A difference between one pair of seeds may be significant over rows and still be due to the seed.

Metrics are averages of per-row values such as top-k hits, so a resample costs a weighted sum but no new ranking. Other
per-row values come from `metrics.row_log_losses`, `row_brier_scores`, `row_edit_distances` (a column) and
`row_calibration_gaps`.
"""

import functools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

logger = logging.getLogger(__name__)

# (values (N, M), how often each row was drawn (R, N)) -> the metric of each column in each resample (R, M).
ResampledMetric = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Draws in memory at a time: 8 MB of float64.
DRAWS_AT_ONCE = 1 << 20
# Up to this many seeds, all 2**S flips of signs are enumerated; beyond, they are sampled.
MAX_SEEDS_COUNTED = 16


@dataclass(frozen=True)
class PairedBootstrap:
    """A difference candidate - baseline, in the unit of the values, with its percentile interval and p-value."""

    baseline: float
    candidate: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class BootstrapInterval:
    """A metric, in the unit of the values, with its percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """The number of rows that only one of two models gets right, and the p-value: the probability of a split at least
    as uneven."""

    only_baseline: int
    only_candidate: int
    p_value: float


@dataclass(frozen=True)
class SeedInterval:
    """Mean, standard deviation (with S - 1) and Student-t interval of one number per seed."""

    mean: float
    std: float
    low: float
    high: float


def row_mean(values: np.ndarray, row_counts: np.ndarray) -> np.ndarray:
    """Returns the mean over the drawn rows, `(R, M)`: top-k accuracy, if values are hits.

    Args:
        values (`np.ndarray` of shape `(N, M)`): One number per row, for each of M models.
        row_counts (`np.ndarray` of shape `(R, N)`): How often each row was drawn in each of R resamples.
    """
    return row_counts @ values / row_counts.sum(axis=1, keepdims=True)


def class_mean(labels: np.ndarray) -> ResampledMetric:
    """Returns the metric that averages within each class, then over the drawn classes: class-mean top-k recall of hits.

    A class with few rows is missing from many resamples, and its mean varies widely in the others: if most classes are
    rare, as in EPIC-Kitchens, intervals are wide.

    Args:
        labels (`np.ndarray` of shape `(N,)`): Class ids of the rows.
    """
    order = np.argsort(labels, kind="stable")
    _, first = np.unique(np.asarray(labels)[order], return_index=True)

    def metric(values: np.ndarray, row_counts: np.ndarray) -> np.ndarray:
        counts = row_counts[:, order]
        class_counts = np.add.reduceat(counts, first, axis=1)  # (R, C)
        num_drawn = np.count_nonzero(class_counts, axis=1)
        means = []
        for column in values[order].T:
            sums = np.add.reduceat(counts * column, first, axis=1)
            means.append((sums / np.maximum(class_counts, 1)).sum(axis=1) / num_drawn)
        return np.stack(means, axis=1)  # (R, M)

    return metric


def calibration_error(bins: np.ndarray) -> ResampledMetric:
    """Returns the metric that averages gaps within each bin, then their absolute values over the rows.

    For `metrics.row_calibration_gaps` it is the expected calibration error, as a share. Resamples have a larger error
    on average than the rows they are drawn from, so intervals of a single model are biased upward, most for a
    well-calibrated one. In differences between two models this mostly cancels.

    Args:
        bins (`np.ndarray` of shape `(N, M)`): Bin of each row from 0, for each of the M columns of values.
    """
    num_bins = int(bins.max()) + 1

    def metric(values: np.ndarray, row_counts: np.ndarray) -> np.ndarray:
        errors = []
        for gaps, bin_of in zip(values.T, bins.T, strict=True):
            by_bin = np.zeros((len(gaps), num_bins))
            by_bin[np.arange(len(gaps)), bin_of] = gaps
            errors.append(np.abs(row_counts @ by_bin).sum(axis=1))
        return np.stack(errors, axis=1) / row_counts.sum(axis=1, keepdims=True)  # (R, M)

    return metric


def paired_bootstrap(
    baseline: np.ndarray,
    candidate: np.ndarray,
    metric: ResampledMetric = row_mean,
    *,
    num_resamples: int = 10_000,
    groups: Sequence | np.ndarray | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedBootstrap:
    """Returns how much better the candidate is, with a percentile interval and a two-sided p-value over rows.

    Both models are measured on the same resampled rows. The p-value is twice the share of resamples in which the
    difference has the other sign or is zero, counting the data as one such resample, so it is at least 2 /
    (num_resamples + 1). It is also at least 2 / 2^G for G groups, the least that flips of their signs could give: few
    videos that agree are no strong evidence, although all of their resamples agree. One group alone has an interval
    without width, which is logged.

    Args:
        baseline, candidate (`np.ndarray` of shape `(N,)` or `(N, S)`): One number per row: top-k hits, or their mean
            over seeds. With S columns, one per seed, the metrics of the columns are averaged.
        metric (`ResampledMetric`, *optional*, defaults to `row_mean`): `row_mean`, `class_mean(labels)`,
            `calibration_error(bins)`, or any function of values `(N, 2 * S)`, the baseline's first, and row counts
            `(R, N)` that gives `(R, 2 * S)`.
        num_resamples (`int`, *optional*, defaults to 10000): Resamples of N rows with replacement.
        groups (sequence of length N, *optional*): The group of each row, such as its video: whole groups are drawn,
            since rows of one video are not independent.
        confidence (`float`, *optional*, defaults to 0.95): Confidence of the interval.
        seed (`int`, *optional*, defaults to 0): Seed of the resamples.
    """
    sides = _check_pair(baseline, candidate, max_dims=2)
    values = np.concatenate([side.reshape(len(side), -1) for side in sides], axis=1)  # (N, 2 * S)

    def of_both(row_counts: np.ndarray) -> np.ndarray:
        return metric(values, row_counts).reshape(len(row_counts), 2, -1).mean(axis=2)  # (R, 2)

    group_of = _numbered(groups, len(values))
    observed, resampled = _resample(of_both, group_of, num_resamples, confidence, seed)
    differences = resampled[:, 1] - resampled[:, 0]
    low, high = _percentiles(differences, confidence)
    tolerance = 1e-12 * np.abs(values).max()  # smaller differences are due to rounding
    least = 2.0 ** -int(group_of.max())  # 2 / 2^G
    fewer = min(np.count_nonzero(differences <= tolerance), np.count_nonzero(differences >= -tolerance))
    return PairedBootstrap(
        baseline=float(observed[0]),
        candidate=float(observed[1]),
        difference=float(observed[1] - observed[0]),
        low=low,
        high=high,
        p_value=min(1.0, max(2 * (int(fewer) + 1) / (num_resamples + 1), least)),
    )


def bootstrap_interval(
    values: np.ndarray,
    metric: ResampledMetric = row_mean,
    *,
    num_resamples: int = 10_000,
    groups: Sequence | np.ndarray | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> BootstrapInterval:
    """Returns the metric of one model with a percentile interval over rows.

    Overlapping intervals of two models do not show that the models are equally good: compare them with
    `paired_bootstrap`.

    Args:
        values (`np.ndarray` of shape `(N,)` or `(N, S)`): One number per row, or one for each of S seeds, whose metrics
            are averaged.
        metric, num_resamples, groups, confidence, seed: As for `paired_bootstrap`.
    """
    values = _check_numbers("values", values, 1, max_dims=2)
    columns = values.reshape(len(values), -1)  # (N, S)

    def of_model(row_counts: np.ndarray) -> np.ndarray:
        return metric(columns, row_counts).mean(axis=1, keepdims=True)  # (R, 1)

    observed, resampled = _resample(of_model, _numbered(groups, len(values)), num_resamples, confidence, seed)
    return BootstrapInterval(float(observed[0]), *_percentiles(resampled[:, 0], confidence))


def mcnemar_exact(baseline_hits: np.ndarray, candidate_hits: np.ndarray) -> McNemar:
    """Returns the exact McNemar test: how many rows one model alone hits, and the two-sided p-value of their split.

    Args:
        baseline_hits, candidate_hits (`np.ndarray` of bool, `(N,)`): Top-k hits of the same rows.
    """
    baseline, candidate = (np.asarray(hits) for hits in (baseline_hits, candidate_hits))
    if baseline.dtype != bool or candidate.dtype != bool:
        raise ValueError(f"The hits are of type {baseline.dtype} and {candidate.dtype}: give bool, one pair of models.")
    _check_pair(baseline, candidate)
    only_baseline = int(np.count_nonzero(baseline & ~candidate))
    only_candidate = int(np.count_nonzero(candidate & ~baseline))
    discordant = only_baseline + only_candidate
    # Not scipy's `binomtest`, which raises if the models never disagree.
    tail = scipy.stats.binom.cdf(min(only_baseline, only_candidate), discordant, 0.5)
    return McNemar(only_baseline, only_candidate, min(1.0, 2 * float(tail)))


def sign_flip_test(differences: Sequence[float] | np.ndarray, *, num_resamples: int = 10_000, seed: int = 0) -> float:
    """Returns the two-sided p-value of the mean difference over seeds, by flipping the sign of each.

    Up to 16 seeds every flip is enumerated, and the smallest possible p-value with S seeds is 2 / 2**S: 0.25 for 3,
    0.0625 for 5, 0.031 for 6. Beyond that, `num_resamples` flips are sampled, and the data count as one more.

    Args:
        differences (`Sequence[float]`): Candidate minus baseline, one per seed.
        num_resamples (`int`, *optional*, defaults to 10000): Number of sampled flips beyond 16 seeds.
        seed (`int`, *optional*, defaults to 0): Seed of these samples.
    """
    differences = _check_numbers("differences", differences, 1)
    observed = abs(differences.sum())
    tolerance = 1e-12 * np.abs(differences).sum()  # sums that differ by rounding only are equal
    num_seeds = len(differences)
    # Not `scipy.stats.permutation_test`, which raises for a single seed and is dozens of times slower for 16.
    if num_seeds <= MAX_SEEDS_COUNTED:
        signs = 1 - 2 * ((np.arange(2**num_seeds)[:, None] >> np.arange(num_seeds)) & 1)  # (2**S, S)
        return float(np.mean(np.abs(signs @ differences) >= observed - tolerance))
    signs = np.random.default_rng(seed).choice([-1, 1], size=(num_resamples, num_seeds))
    as_extreme = np.count_nonzero(np.abs(signs @ differences) >= observed - tolerance)
    return float((as_extreme + 1) / (num_resamples + 1))


def student_t_interval(values: Sequence[float] | np.ndarray, *, confidence: float = 0.95) -> SeedInterval:
    """Returns mean, standard deviation and Student-t interval of one number per seed, for at least two seeds.

    The interval assumes that the numbers are normally distributed: with 3 seeds it extends 4.3 standard errors to each
    side.
    """
    values = _check_numbers("values", values, 2)
    _check_share("confidence", confidence)
    mean, std = float(values.mean()), float(values.std(ddof=1))
    # Not scipy's `t.interval`, which is NaN if all seeds agree.
    quantile = float(scipy.stats.t.ppf((1 + confidence) / 2, len(values) - 1))
    half_width = quantile * std / math.sqrt(len(values))
    return SeedInterval(mean, std, mean - half_width, mean + half_width)


def _numbered(groups: Sequence | np.ndarray | None, num_rows: int) -> np.ndarray:
    """Returns the number of each row's group, from 0 on, `(N,)`. Default: each row is a group."""
    group_of = np.arange(num_rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    if group_of.shape != (num_rows,):
        raise ValueError(f"groups has shape {group_of.shape} for {num_rows} rows: give the group of each row.")
    if not group_of.any():
        _warn_of_one_group()
    return group_of


@functools.cache
def _warn_of_one_group():
    logger.warning("All rows are of one group, such as one video: intervals have no width and say nothing.")


def _resample(
    metric: Callable[[np.ndarray], np.ndarray], group_of: np.ndarray, num_resamples: int, confidence: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a metric of row counts `(R, N)` on the rows themselves, `(M,)`, and on resamples of groups, `(R, M)`."""
    _check_share("confidence", confidence)
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}: give a positive number.")
    num_rows, num_groups = len(group_of), int(group_of.max()) + 1
    rng = np.random.default_rng(seed)
    resampled = []
    for start in range(0, num_resamples, step := max(1, DRAWS_AT_ONCE // num_rows)):
        group_counts = _draw_row_counts(rng, min(step, num_resamples - start), num_groups)
        resampled.append(metric(group_counts[:, group_of]))
    return metric(np.ones((1, num_rows)))[0], np.concatenate(resampled)


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _draw_row_counts(rng: np.random.Generator, num_resamples: int, num_rows: int) -> np.ndarray:
    """Returns how often each row was drawn in each resample, float64 `(R, N)`."""
    drawn = rng.integers(0, num_rows, size=(num_resamples, num_rows)) + num_rows * np.arange(num_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_rows)
    return counts.reshape(num_resamples, num_rows).astype(np.float64)


def _check_pair(baseline: np.ndarray, candidate: np.ndarray, *, max_dims: int = 1) -> tuple[np.ndarray, np.ndarray]:
    baseline = _check_numbers("baseline", baseline, 1, max_dims=max_dims)
    candidate = _check_numbers("candidate", candidate, 1, max_dims=max_dims)
    if len(baseline) != len(candidate):
        raise ValueError(
            f"baseline has {len(baseline)} rows and candidate {len(candidate)}: give values of the same rows."
        )
    if baseline.shape != candidate.shape:
        raise ValueError(
            f"baseline has shape {baseline.shape} and candidate {candidate.shape}: give equal numbers of seeds."
        )
    return baseline, candidate


def _check_numbers(name: str, values: Sequence[float] | np.ndarray, at_least: int, *, max_dims: int = 1) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if not 1 <= values.ndim <= max_dims or len(values) < at_least or not values.size or not np.isfinite(values).all():
        raise ValueError(f"{name} has shape {values.shape}: give at least {at_least} finite numbers in one dimension.")
    return values


def _check_share(name: str, value: float):
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}: give a number between 0 and 1.")
