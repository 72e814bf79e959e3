"""Statistics: compared with enumerations, tables and hand-computed values, and on data with a known answer."""

import itertools
import math

import numpy as np
import pytest

from avt_distill.evaluation import statistics
from avt_distill.evaluation.statistics import (
    SeedInterval,
    bootstrap_interval,
    calibration_error,
    class_mean,
    mcnemar_exact,
    paired_bootstrap,
    row_mean,
    sign_flip_test,
    student_t_interval,
)
from avt_distill.metrics import (
    anticipation_metrics,
    expected_calibration_error,
    label_ranks,
    row_brier_scores,
    row_calibration_gaps,
)


def hits_of_two_models(num_rows=400, gain=0.1, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.geometric(0.2, num_rows), 12)
    baseline = rng.random(num_rows) < 0.3
    return baseline, baseline | (rng.random(num_rows) < gain), labels


def test_resampled_metrics_equal_the_metrics_of_the_drawn_rows():
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((30, 8)), rng.integers(0, 8, 30)
    hits = label_ranks(scores, labels) < 5
    values = np.stack([hits, ~hits], axis=1).astype(float)
    drawn = rng.integers(0, 30, size=(20, 30))
    row_counts = np.stack([np.bincount(rows, minlength=30) for rows in drawn]).astype(float)
    assert min(len(np.unique(labels[rows])) for rows in drawn) < 8  # some classes are absent from some resamples
    for resampled, name in (
        (row_mean(values, row_counts), "action_top5_accuracy"),
        (class_mean(labels)(values, row_counts), "action_class_mean_top5_recall"),
    ):
        expected = [anticipation_metrics(scores[rows], labels[rows])[name] for rows in drawn]
        np.testing.assert_allclose(100 * resampled[:, 0], expected, atol=1e-9)
        np.testing.assert_allclose(resampled.sum(axis=1), 1)


def test_resampled_calibration_errors_are_those_of_the_drawn_rows():
    rng = np.random.default_rng(0)
    models, labels = rng.standard_normal((2, 40, 5)), rng.integers(0, 5, 40)
    gaps, bins = zip(*(row_calibration_gaps(scores, labels) for scores in models), strict=True)
    drawn = rng.integers(0, 40, size=(20, 40))
    row_counts = np.stack([np.bincount(rows, minlength=40) for rows in drawn]).astype(float)
    found = calibration_error(np.stack(bins, axis=1))(np.stack(gaps, axis=1), row_counts)
    expected = [[expected_calibration_error(scores[rows], labels[rows]) for scores in models] for rows in drawn]
    np.testing.assert_allclose(100 * found, expected)


def test_seeds_in_columns_are_measured_each_and_then_averaged():
    rng = np.random.default_rng(0)
    baseline, candidate, labels = rng.random((60, 3)), rng.random((60, 3)), rng.integers(0, 4, 60)
    for metric in (row_mean, class_mean(labels)):  # metrics for which averaging over seeds first gives the same result
        by_seed = paired_bootstrap(baseline, candidate, metric, num_resamples=50)
        first = paired_bootstrap(baseline.mean(axis=1), candidate.mean(axis=1), metric, num_resamples=50)
        for name in ("baseline", "candidate", "difference", "low", "high", "p_value"):
            assert getattr(by_seed, name) == pytest.approx(getattr(first, name))
    bins = rng.integers(0, 5, (60, 6))
    found = paired_bootstrap(baseline - 0.5, candidate - 0.5, calibration_error(bins), num_resamples=50)
    alone = calibration_error(bins[:, :3])(baseline - 0.5, np.ones((1, 60)))[0]
    assert found.baseline == pytest.approx(alone.mean())


def test_the_interval_of_one_model_agrees_with_the_normal_approximation_and_draws_whole_groups():
    rng = np.random.default_rng(0)
    values = row_brier_scores(rng.standard_normal((900, 4)), rng.integers(0, 4, 900))
    found = bootstrap_interval(values, num_resamples=3000)
    half_width = 1.96 * values.std() / math.sqrt(900)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert found.high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)
    of_video = np.repeat(values[::9], 9)  # nine equal rows in each video
    rows, videos = (bootstrap_interval(of_video, groups=groups) for groups in (None, np.repeat(np.arange(100), 9)))
    assert (videos.high - videos.low) / (rows.high - rows.low) == pytest.approx(3, rel=0.1)
    columns = bootstrap_interval(np.stack([values, values], axis=1), num_resamples=3000)
    assert (columns.low, columns.high) == pytest.approx((found.low, found.high))


def test_bootstrap_of_a_mean_agrees_with_the_normal_approximation():
    baseline, candidate, _ = hits_of_two_models(2000)
    result = paired_bootstrap(baseline, candidate, num_resamples=4000)
    gains = candidate.astype(float) - baseline
    half_width = 1.96 * gains.std() / math.sqrt(len(gains))
    assert result.difference == pytest.approx(gains.mean())
    assert (result.baseline, result.candidate) == pytest.approx((baseline.mean(), candidate.mean()))
    assert result.low - result.difference == pytest.approx(-half_width, rel=0.07)
    assert result.high - result.difference == pytest.approx(half_width, rel=0.07)
    assert result.p_value == pytest.approx(2 / 4001)


def test_bootstrap_finds_nothing_between_equal_models():
    baseline, _, labels = hits_of_two_models()
    for metric in (row_mean, class_mean(labels)):
        result = paired_bootstrap(baseline, baseline, metric, num_resamples=50)
        assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_bootstrap_p_values_are_uniform_where_the_models_are_equally_good():
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        baseline, candidate = rng.random((2, 100)) < 0.4
        p_values.append(paired_bootstrap(baseline, candidate, num_resamples=300, seed=seed).p_value)
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.10
    assert 0.40 <= np.mean(np.array(p_values) < 0.5) <= 0.60


@pytest.mark.parametrize(("num_videos", "p_value"), [(1, 1.0), (2, 0.5), (6, 2 / 2**6), (30, 2 / 4001)])
def test_few_videos_that_agree_are_no_strong_evidence(caplog, num_videos, p_value):
    """All resamples of any number of videos agree if the videos do; with one video, all resamples even equal it."""
    statistics._warn_of_one_group.cache_clear()
    groups = np.repeat(np.arange(num_videos), 5)
    result = paired_bootstrap(np.zeros(len(groups)), np.ones(len(groups)), num_resamples=4000, groups=groups)
    assert result.p_value == pytest.approx(p_value)
    assert ("intervals have no width" in caplog.text) == (num_videos == 1)


def test_swapping_the_models_mirrors_the_result():
    baseline, candidate, labels = hits_of_two_models(gain=0.02)
    forward = paired_bootstrap(baseline, candidate, class_mean(labels), num_resamples=500, seed=3)
    backward = paired_bootstrap(candidate, baseline, class_mean(labels), num_resamples=500, seed=3)
    assert backward.difference == -forward.difference
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low))
    assert backward.p_value == forward.p_value


def test_the_seed_alone_decides_the_resamples(monkeypatch):
    baseline, candidate, _ = hits_of_two_models()
    first = paired_bootstrap(baseline, candidate, num_resamples=300, seed=1)
    assert paired_bootstrap(baseline, candidate, num_resamples=300, seed=1) == first
    assert paired_bootstrap(baseline, candidate, num_resamples=300, seed=2) != first
    monkeypatch.setattr("avt_distill.evaluation.statistics.DRAWS_AT_ONCE", 1000)
    assert paired_bootstrap(baseline, candidate, num_resamples=300, seed=1) == first


def test_bootstrap_takes_any_metric_over_rows():
    values = np.array([1.0, 2, 6])

    def largest(values, row_counts):
        return np.where(row_counts[:, :, None] > 0, values, -np.inf).max(axis=1)

    result = paired_bootstrap(values, values + 1, largest, num_resamples=40)
    assert (result.baseline, result.candidate, result.low, result.high) == (6, 7, 1, 1)


@pytest.mark.parametrize(("only_baseline", "only_candidate"), [(0, 0), (0, 1), (1, 4), (3, 3), (7, 2), (0, 12)])
def test_mcnemar_equals_the_enumeration_of_all_splits(only_baseline, only_candidate):
    discordant = only_baseline + only_candidate
    splits = [sum(signs) for signs in itertools.product((0, 1), repeat=discordant)]
    distance = abs(only_candidate - discordant / 2)
    expected = np.mean([abs(split - discordant / 2) >= distance for split in splits])
    baseline = np.array([True] * only_baseline + [False] * only_candidate + [True, False, False])
    candidate = np.array([False] * only_baseline + [True] * only_candidate + [True, False, False])
    result = mcnemar_exact(baseline, candidate)
    assert (result.only_baseline, result.only_candidate) == (only_baseline, only_candidate)
    assert result.p_value == pytest.approx(expected, abs=1e-15)


def test_mcnemar_of_thousands_of_rows_neither_overflows_nor_underflows():
    baseline = np.arange(6000) < 3000
    assert mcnemar_exact(baseline, ~baseline).p_value == 1.0
    uneven = np.arange(6000) < 2800
    # 2,800 : 3,200, 5.16 standard deviations off: 2.5e-7 in the normal approximation.
    assert mcnemar_exact(uneven, ~uneven).p_value == pytest.approx(2.6e-7, rel=0.05)


def test_sign_flips_by_hand_and_at_their_smallest():
    assert sign_flip_test([1.0]) == 1.0
    assert sign_flip_test([1.0, 2.0, 3.0]) == 2 / 8
    assert sign_flip_test([1.0, 2.0, -3.0]) == 1.0
    # |1 + 2 - 1| = 2 is reached by 6 of the 8 flips: all but +1 -2 +1 and its mirror.
    assert sign_flip_test([1.0, 2.0, -1.0]) == 6 / 8
    assert sign_flip_test([0.3] * 5) == 2 / 32
    assert sign_flip_test([0.0, 0.0]) == 1.0


def test_drawn_sign_flips_agree_with_counted_ones(monkeypatch):
    differences = np.random.default_rng(0).normal(0.4, 1, 12)
    counted = sign_flip_test(differences)
    monkeypatch.setattr("avt_distill.evaluation.statistics.MAX_SEEDS_COUNTED", 3)
    drawn = sign_flip_test(differences, num_resamples=20_000, seed=1)
    assert drawn == pytest.approx(counted, abs=0.015)
    assert drawn != sign_flip_test(differences, num_resamples=20_000, seed=2)


def test_sign_flips_count_sums_that_differ_by_rounding_as_equal():
    assert sign_flip_test([0.3, 0.5, -0.6, 0.6]) == sign_flip_test([3, 5, -6, 6]) == 10 / 16


def t_quantile(probability: float, degrees_of_freedom: int) -> float:
    """Returns half the width of an interval in standard errors of the mean."""
    values = np.arange(degrees_of_freedom + 1.0)
    interval = student_t_interval(values, confidence=2 * probability - 1)
    return (interval.high - interval.mean) / (interval.std / math.sqrt(len(values)))


@pytest.mark.parametrize("probability", [0.55, 0.9, 0.975, 0.9995])
def test_t_intervals_equal_the_closed_forms(probability):
    assert t_quantile(probability, 1) == pytest.approx(math.tan(math.pi * (probability - 0.5)), rel=1e-10)
    share = 2 * probability - 1
    assert t_quantile(probability, 2) == pytest.approx(share * math.sqrt(2 / (1 - share**2)), rel=1e-10)


@pytest.mark.parametrize(
    ("degrees_of_freedom", "table"), [(3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (30, 2.0423), (1000, 1.9623)]
)
def test_t_intervals_equal_the_printed_table(degrees_of_freedom, table):
    assert t_quantile(0.975, degrees_of_freedom) == pytest.approx(table, abs=5e-5)


def test_t_interval_by_hand():
    half_width = 4.302652729749464 / math.sqrt(3)
    interval = student_t_interval([1.0, 2.0, 3.0])
    assert interval == SeedInterval(2.0, 1.0, pytest.approx(2 - half_width), pytest.approx(2 + half_width))
    assert student_t_interval([1.0, 2.0, 3.0], confidence=0.5).high < interval.high


def test_t_interval_of_equal_seeds_is_a_point_and_not_nan():
    assert student_t_interval([0.5, 0.5, 0.5]) == SeedInterval(0.5, 0.0, 0.5, 0.5)


def test_t_interval_covers_the_mean_as_often_as_stated():
    samples = np.random.default_rng(0).normal(5, 2, size=(600, 4))
    covered = [interval.low <= 5 <= interval.high for interval in map(student_t_interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_bootstrap([1, 0], [1]), "baseline has 2 rows and candidate 1"),
        (lambda: paired_bootstrap([], []), r"baseline has shape \(0,\)"),
        (lambda: paired_bootstrap([1, np.nan], [1, 0]), "baseline .* finite"),
        (lambda: paired_bootstrap([1], [1], confidence=95), "confidence is 95"),
        (lambda: paired_bootstrap([1], [1], num_resamples=0), "num_resamples is 0"),
        (lambda: mcnemar_exact(np.ones(2), np.ones(2)), "type float64 and float64"),
        (lambda: mcnemar_exact(np.ones(2, bool), np.ones(3, bool)), "baseline has 2 rows and candidate 3"),
        (lambda: sign_flip_test([]), r"differences has shape \(0,\)"),
        (lambda: student_t_interval([1.0]), r"values has shape \(1,\): give at least 2"),
        (lambda: student_t_interval([1.0, 2.0], confidence=1.0), "confidence is 1.0"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_groups_are_drawn_whole():
    """Copies of a row carry no more information than the row itself."""
    rng = np.random.default_rng(0)
    baseline, candidate = rng.random((2, 40)) < 0.5
    single = paired_bootstrap(baseline, candidate, num_resamples=2000)
    copies = [np.repeat(hits, 10) for hits in (baseline, candidate)]
    grouped = paired_bootstrap(*copies, groups=np.repeat(np.arange(40), 10), num_resamples=2000)
    alone = paired_bootstrap(*copies, num_resamples=2000)
    assert (grouped.low, grouped.high, grouped.p_value) == pytest.approx((single.low, single.high, single.p_value))
    assert alone.high - alone.low < 0.5 * (grouped.high - grouped.low)
    with pytest.raises(ValueError, match="groups has shape"):
        paired_bootstrap(baseline, candidate, groups=["a", "b"])
