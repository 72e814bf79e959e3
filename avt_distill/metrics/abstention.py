"""Abstention: the error among answers as a function of confidence, and thresholds that bound the error rate.

A model answers when its confidence, such as the probability of its best action, is at or above a threshold. Coverage is
the share of rows that are answered, risk the share of answers that are wrong; both are from 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

# Largest share of the capital that a bet may lose: with 1, a single wrong video would end the test.
LARGEST_STAKE = 0.75
# Thresholds of probabilities, from strict to loose.
THRESHOLDS = tuple(step / 20 for step in range(19, -1, -1))


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Risk at each coverage: one point for each different confidence, from the highest on.

    Args:
        thresholds (`np.ndarray` of shape `(P,)`): Rows of at least this confidence are answered; descending.
        coverage (`np.ndarray` of shape `(P,)`): Share of the rows that are answered; 1 at the last point.
        risk (`np.ndarray` of shape `(P,)`): Share of these that are wrong.
        area (`float`): Under the curve (AURC): the risk averaged over coverage. Lower is better; uninformative
            confidence gives the error rate of all rows.
    """

    thresholds: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray
    area: float


def risk_coverage_curve(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """Returns the error among answers at each coverage (Geifman, Uziel and El-Yaniv, ICLR 2019).

    Rows of equal confidence are answered together, so that the order of the rows does not matter; without ties the area
    is the mean over n of the risk of the n surest rows, as in the paper.

    Args:
        confidence (`np.ndarray` of shape `(N,)`): Confidence in each row, in any unit; higher is surer.
        correct (`np.ndarray` of bool, `(N,)`): Whether each answer is right, such as top-1 or top-5 hits.

    Returns:
        `RiskCoverage`: The curve and the area under it.
    """
    confidence, correct = _check_answers(confidence, correct)
    order = np.argsort(-confidence, kind="stable")
    last_of_equals = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
    num_answered = last_of_equals + 1
    risk = np.cumsum(~correct[order])[last_of_equals] / num_answered
    coverage = num_answered / len(order)
    area = float(np.diff(coverage, prepend=0) @ risk)
    return RiskCoverage(confidence[order][last_of_equals], coverage, risk, area)


def conformal_threshold(
    confidence: np.ndarray,
    correct: np.ndarray,
    groups: np.ndarray | Sequence | None,
    error_rate: float,
    *,
    delta: float = 0.1,
    thresholds: Sequence[float] = THRESHOLDS,
) -> float | None:
    """Returns the lowest confidence threshold that keeps the error among answers at or below a rate, or `None`.

    Learn-then-test (Angelopoulos et al., 2021): each threshold is tested for its risk being above `error_rate`, and the
    lowest for which that is rejected is returned.

    Guarantee: with a probability of at least 1 - `delta` over the calibration videos, the expected share of
    wrong answers among the answers of a new video that has any is at most `error_rate`. The condition is that
    calibration and new videos are drawn independently from one source, and that the model did not learn from them; it
    holds for any number of videos and any model. Each video counts the same, however long it is: the rate pooled over
    the rows of all videos, which long ones dominate, cannot be bounded without a limit on their length. Without
    `groups` each row is a video of its own, and both rates are one.

    Conformal risk control (Angelopoulos et al., 2022) bounds the mean of losses that only fall as the threshold rises,
    such as the share of all rows that are answered and wrong. The error among answers may also rise, and a low share of
    all rows hides a model that is wrong whenever it answers; hence the tests.

    Single rows are tested by the binomial tail, shares within videos by betting (Waudby-Smith and Ramdas, 2024), in the
    order of the groups' ids. All thresholds are tested from strict to loose by the fallback procedure (Wiens and
    Dmitrienko, 2005): each has an equal part of `delta`, and passes all that it had on to the next if it is rejected.
    Fewer thresholds therefore need fewer videos: without any error, at a rate of 0.2 and a delta of 0.1, 31 videos (24
    single rows) suffice for 20 thresholds, and 14 (11) for one.

    Args:
        confidence (`np.ndarray` of shape `(N,)`): Confidence in each calibration row.
        correct (`np.ndarray` of bool, `(N,)`): Whether each answer is right.
        groups (sequence of length N, or `None`): The video of each row, since rows of a video are not independent.
            `None` if each row comes from a different video.
        error_rate (`float`): Share of the answers that may be wrong.
        delta (`float`, *optional*, defaults to 0.1): Probability, over the calibration videos, of a threshold that
            does not keep the rate.
        thresholds (`Sequence[float]`, *optional*, defaults to 0.95, 0.9, ..., 0): Confidences to choose from. Choose
            them without these rows. For large label spaces, whose probabilities are low, give lower ones.

    Returns:
        `float` or `None`: Answer when the confidence is at least this. `None`: no threshold is known to keep the
        rate, so never answer.

    Raises:
        ValueError: If there are no rows or no thresholds, shapes do not match, a confidence is not finite, or a rate is
            not between 0 and 1.
    """
    confidence, correct = _check_answers(confidence, correct)
    for name, share in (("error_rate", error_rate), ("delta", delta)):
        if not 0 < share < 1:
            raise ValueError(f"{name} is {share}: give a number between 0 and 1.")
    if not len(thresholds) or not np.isfinite(thresholds).all():
        raise ValueError(f"thresholds is {tuple(thresholds)}: give at least one finite confidence.")
    group_of = np.arange(len(confidence)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if group_of.shape != confidence.shape:
        raise ValueError(f"groups has shape {group_of.shape} for {len(confidence)} rows: give the group of each row.")
    candidates = sorted({float(threshold) for threshold in thresholds}, reverse=True)
    lowest, passed_on = None, 0.0
    for threshold in candidates:
        answered = confidence >= threshold
        num_answers = np.bincount(group_of[answered])
        num_wrong = np.bincount(group_of[answered], weights=~correct[answered])
        shares = num_wrong[num_answers > 0] / num_answers[num_answers > 0]
        level = delta / len(candidates) + passed_on
        if groups is None:
            p_value = _binomial_p_value(int(num_wrong.sum()), len(shares), error_rate)
        else:
            p_value = _betting_p_value(shares, error_rate, delta / len(candidates))
        rejected = p_value <= level
        passed_on = level if rejected else 0.0
        lowest = threshold if rejected else lowest
    return lowest


def _binomial_p_value(num_wrong: int, num_answers: int, error_rate: float) -> float:
    """Returns the probability of so few wrong answers if each is wrong with a probability of `error_rate`."""
    return float(scipy.special.bdtr(num_wrong, num_answers, error_rate)) if num_answers else 1.0


def _betting_p_value(shares: np.ndarray, error_rate: float, level: float) -> float:
    """Returns a p-value of the hypothesis that the expectation of shares, from 0 to 1, is at least `error_rate`.

    A gambler bets on low shares, one after the other, without going broke. If the hypothesis is true, capital of 1 is
    expected to fall, and exceeds c at any time with a probability of at most 1 / c (Waudby-Smith and Ramdas, 2024).
    Stakes grow with the certainty of what came before: if shares vary little, few of them suffice. They need not be
    right for the p-value to be valid.

    Args:
        shares (`np.ndarray` of shape `(n,)`): Independent, of one distribution; none gives a p-value of 1.
        error_rate (`float`): The mean to refute.
        level (`float`): For which stakes are chosen.
    """
    if not len(shares):
        return 1.0
    counts = np.arange(1, len(shares) + 1)
    means = (0.5 + np.cumsum(shares)) / (counts + 1)
    variances = (0.25 + np.cumsum((shares - means) ** 2)) / (counts + 1)
    before = np.append(0.25, variances[:-1])
    stakes = np.minimum(np.sqrt(2 * np.log(1 / level) / (len(shares) * before)), LARGEST_STAKE / (1 - error_rate))
    log_capital = np.cumsum(np.log1p(stakes * (error_rate - shares)))
    return float(min(1.0, np.exp(-log_capital.max())))


def _check_answers(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if confidence.ndim != 1 or not len(confidence) or not np.isfinite(confidence).all():
        raise ValueError(f"confidence has shape {confidence.shape}: give finite numbers of shape (N,), N at least 1.")
    if correct.shape != confidence.shape or correct.dtype != bool:
        raise ValueError(
            f"correct has shape {correct.shape} and type {correct.dtype}: give bool of shape {confidence.shape}."
        )
    return confidence, correct
