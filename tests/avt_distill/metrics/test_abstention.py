"""Withheld answers: the curve compared with a plain loop, and thresholds that keep their guarantee on random videos."""

import numpy as np
import pytest
import scipy.stats

from avt_distill.metrics import conformal_threshold, risk_coverage_curve
from avt_distill.metrics.abstention import THRESHOLDS, _betting_p_value


@pytest.mark.parametrize("decimals", [1, 8])  # with many ties, and without
def test_the_curve_equals_plain_lines_whatever_the_order_of_the_rows(decimals):
    rng = np.random.default_rng(0)
    confidence = rng.random(60).round(decimals)
    correct = rng.random(60) < confidence
    curve = risk_coverage_curve(confidence, correct)
    thresholds = sorted(set(confidence.tolist()), reverse=True)
    assert curve.thresholds.tolist() == thresholds
    np.testing.assert_allclose(curve.coverage, [(confidence >= threshold).mean() for threshold in thresholds])
    np.testing.assert_allclose(curve.risk, [(~correct[confidence >= threshold]).mean() for threshold in thresholds])
    order = rng.permutation(60)
    assert risk_coverage_curve(confidence[order], correct[order]).area == curve.area
    if decimals == 8:
        wrong = ~correct[np.argsort(-confidence)]
        assert curve.area == pytest.approx(np.mean([wrong[: n + 1].mean() for n in range(60)]))


def test_the_curve_by_hand():
    curve = risk_coverage_curve(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    np.testing.assert_allclose(curve.coverage, [0.25, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx(0.25 * 0 + 0.5 / 3 + 0.25 / 2)
    assert risk_coverage_curve(np.zeros(4), np.array([True, False, False, False])).area == 0.75


def test_by_hand():
    """Independent rows: 11 correct rows suffice, since 0.8^11 < 0.1; 10 do not."""
    for num_rows, expected in ((10, None), (11, 0.5)):
        sure, right = np.full(num_rows, 0.6), np.ones(num_rows, bool)
        assert conformal_threshold(sure, right, None, 0.2, thresholds=[0.5]) == expected
    # For 30 rows, the binomial tail P(X <= 2) is 0.044, and P(X <= 3) is 0.123.
    for num_wrong, expected in ((2, 0.5), (3, None)):
        correct = np.arange(30) >= num_wrong
        assert scipy.stats.binom.cdf(num_wrong, 30, 0.2) == pytest.approx({2: 0.0442, 3: 0.1227}[num_wrong], abs=1e-4)
        assert conformal_threshold(np.full(30, 0.6), correct, None, 0.2, thresholds=[0.5]) == expected


def test_thresholds_are_tested_from_strict_to_loose_and_pass_on_their_level():
    # 12 correct rows at 0.9: 0.8^12 = 0.069. Each of two thresholds is tested at 0.05, a single one at 0.1.
    confidence, correct = np.append(np.full(12, 0.9), np.full(88, 0.3)), np.ones(100, bool)
    assert conformal_threshold(confidence, correct, None, 0.2, thresholds=[0.8]) == 0.8
    assert conformal_threshold(confidence[:12], correct[:12], None, 0.2, thresholds=[0.8, 0.99]) is None
    assert conformal_threshold(confidence, correct, None, 0.2, thresholds=[0.2, 0.8]) == 0.2
    # 0.8^14 = 0.044 is rejected at 0.05, which is passed on: the next is tested at 0.1, with 0.05 < P < 0.1.
    confidence, correct = np.append(np.full(14, 0.9), np.full(5, 0.3)), np.arange(19) != 18
    assert 0.05 < scipy.stats.binom.cdf(1, 19, 0.2) < 0.1
    assert conformal_threshold(confidence, correct, None, 0.2, thresholds=[0.8, 0.2]) == 0.2
    assert conformal_threshold(confidence, correct, None, 0.2, thresholds=[0.99, 0.2]) is None


def test_rows_of_one_video_are_one_piece_of_evidence():
    confidence, correct = np.full(200, 0.9), np.ones(200, bool)
    assert conformal_threshold(confidence, correct, None, 0.2) == 0.0
    assert conformal_threshold(confidence, correct, np.repeat(np.arange(4), 50), 0.2) is None
    assert conformal_threshold(confidence, correct, np.repeat(np.arange(40), 5), 0.2) == 0.0


@pytest.mark.parametrize(("num_videos", "num_thresholds"), [(31, 20), (14, 1)])
def test_as_many_videos_without_an_error_are_needed_as_the_docstring_states(num_videos, num_thresholds):
    thresholds = np.arange(num_thresholds) / 20
    for count, expected in ((num_videos, thresholds[0]), (num_videos - 1, None)):
        confidence = np.repeat(thresholds[-1], 2 * count)
        found = conformal_threshold(
            confidence, np.ones(2 * count, bool), np.repeat(np.arange(count), 2), 0.2, thresholds=thresholds
        )
        assert found == expected


@pytest.mark.parametrize("num_videos", [5, 30, 200])
@pytest.mark.parametrize("shape", [(0.5, 2.0), (20.0, 80.0), (0.02, 0.08)])  # spread out, alike, nearly 0 or 1
def test_the_p_value_of_shares_is_one_where_the_expectation_is_just_the_rate(num_videos, shape):
    rng = np.random.default_rng(0)
    p_values = np.array([_betting_p_value(rng.beta(*shape, num_videos), 0.2, 0.05) for _ in range(1500)])
    for level in (0.2, 0.05, 0.01):
        assert np.mean(p_values <= level) <= level + 3 * np.sqrt(level / 1500)


def test_a_model_that_is_never_sure_or_always_wrong_never_answers():
    assert conformal_threshold(np.full(99, 0.9), np.zeros(99, bool), None, 0.2) is None
    assert conformal_threshold(np.full(99, 0.1), np.ones(99, bool), None, 0.2, thresholds=[0.5]) is None


def draw_videos(num_videos: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws videos of 1 to 30 rows, some easier than others; confident rows are more likely to be correct."""
    lengths = rng.integers(1, 31, num_videos)
    videos = np.repeat(np.arange(num_videos), lengths)
    skill = rng.beta(2, 2, num_videos)[videos]
    confidence = rng.random(len(videos))
    return confidence, rng.random(len(videos)) < 0.35 * skill + 0.65 * confidence, videos


def risk_of_videos(confidence, correct, videos, threshold: float) -> float:
    answered = confidence >= threshold
    counts = np.bincount(videos[answered])
    wrong = np.bincount(videos[answered], weights=~correct[answered])
    return float(np.mean(wrong[counts > 0] / counts[counts > 0]))


@pytest.mark.parametrize("num_videos", [40, 150])
def test_the_promise_holds_over_many_draws_of_videos(num_videos):
    """At a rate of 0.35 and delta 0.1: the true risk of the threshold is above 0.35 in at most a tenth of the draws."""
    rng = np.random.default_rng(0)
    population = draw_videos(20_000, rng)
    risk_at = {threshold: risk_of_videos(*population, threshold) for threshold in THRESHOLDS}
    assert risk_at[0.0] > 0.45 > 0.35 > risk_at[0.7]  # answering every row would exceed the rate
    found = [conformal_threshold(*draw_videos(num_videos, rng), 0.35) for _ in range(200)]
    broken = np.mean([threshold is not None and risk_at[threshold] > 0.35 for threshold in found])
    assert broken <= 0.1
    if num_videos == 150:
        assert np.mean([threshold is not None for threshold in found]) > 0.6


def test_the_promise_holds_for_single_rows_at_the_edge_of_the_rate():
    """The error rate of the rows is just too high: every threshold that is returned breaks the guarantee."""
    rng = np.random.default_rng(0)
    found = [conformal_threshold(rng.random(300), rng.random(300) >= 0.2001, None, 0.2) for _ in range(400)]
    assert 0 < np.mean([threshold is not None for threshold in found]) <= 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidence": np.zeros(0), "correct": np.zeros(0, bool)}, r"confidence has shape \(0,\)"),
        ({"confidence": np.array([0.5, np.nan])}, "give finite numbers"),
        ({"correct": np.array([1, 0])}, "type int64: give bool"),
        ({"correct": np.array([True])}, r"correct has shape \(1,\)"),
        ({"groups": ["a"]}, r"groups has shape \(1,\) for 2 rows"),
        ({"error_rate": 1.0}, "error_rate is 1.0"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"thresholds": []}, "thresholds is"),
    ],
)
def test_refuses(changes, message):
    given = {"confidence": np.array([0.5, 0.6]), "correct": np.array([True, False]), "groups": None, "error_rate": 0.2}
    with pytest.raises(ValueError, match=message):
        conformal_threshold(**{**given, **changes})
