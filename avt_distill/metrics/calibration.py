"""Quality of probabilities: log loss, Brier score, expected calibration error, and temperature scaling.

All functions accept logits instead of log probabilities: each row is normalized by a softmax. Lower is better for all
three scores. `row_log_losses` and `row_brier_scores` return one number per row, for `evaluation.statistics`.
"""

import numpy as np
import scipy.special

from .anticipation import label_ranks, softmax
from .checks import check_scores

# Temperatures are searched for between the typical difference of two logits divided and multiplied by this.
TEMPERATURE_RANGE = 1e6


def log_loss(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean of -log p(label) in nats: 0 for a model that is certain and right.

    Args:
        log_probs (`np.ndarray` of shape `(N, A)`): Log probabilities; logits are normalized.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
    """
    return float(row_log_losses(log_probs, labels).mean())


def row_log_losses(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns -log p(label) of each row in nats, float64 `(N,)`: its mean is the `log_loss`.

    Args:
        log_probs (`np.ndarray` of shape `(N, A)`): Log probabilities; logits are normalized.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
    """
    log_probs, labels = check_scores(log_probs, labels)
    normalised = scipy.special.log_softmax(log_probs.astype(np.float64), axis=1)
    return -normalised[np.arange(len(labels)), labels]


def brier_score(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the squared distance of the probabilities from the truth: 0 is certain and right, 2 certain and wrong.

    Summed over the classes, with 1 for the label and 0 for the others as the truth, then averaged over the rows (Brier,
    Monthly Weather Review, 1950). Some libraries halve it for two classes, or divide by the number of classes.

    Args:
        log_probs (`np.ndarray` of shape `(N, A)`): Log probabilities; logits are normalized.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
    """
    return float(row_brier_scores(log_probs, labels).mean())


def row_brier_scores(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the squared distance of each row's probabilities from the truth, float64 `(N,)`; see `brier_score`.

    Args:
        log_probs (`np.ndarray` of shape `(N, A)`): Log probabilities; logits are normalized.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
    """
    log_probs, labels = check_scores(log_probs, labels)
    errors = softmax(log_probs)
    errors[np.arange(len(labels)), labels] -= 1
    return np.square(errors).sum(axis=1)


def expected_calibration_error(log_probs: np.ndarray, labels: np.ndarray, *, num_bins: int = 15) -> float:
    """Returns the gap between the probability of the best class and its accuracy, in percent.

    The mean over bins of equal width of |accuracy - mean probability|, weighted by the rows in each (Guo et al., ICML
    2017).

    Args:
        log_probs (`np.ndarray` of shape `(N, A)`): Log probabilities; logits are normalized.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
        num_bins (`int`, *optional*, defaults to 15): Bins of the probability.
    """
    gaps, bins = row_calibration_gaps(log_probs, labels, num_bins=num_bins)
    return 100 * float(np.abs(np.bincount(bins, weights=gaps, minlength=num_bins)).sum() / len(gaps))


def row_calibration_gaps(
    log_probs: np.ndarray, labels: np.ndarray, *, num_bins: int = 15
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each row's hit (0 or 1) minus the probability of its best class, `(N,)`, and its bin, int64 `(N,)`.

    These are the terms of `expected_calibration_error`, for resampling rows: see
    `evaluation.statistics.calibration_error`.

    Args:
        log_probs (`np.ndarray` of shape `(N, A)`): Log probabilities; logits are normalized.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
        num_bins (`int`, *optional*, defaults to 15): Bins of the probability.
    """
    log_probs, labels = check_scores(log_probs, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}: give a positive number.")
    confidence, hits = softmax(log_probs).max(1), label_ranks(log_probs, labels) < 1
    return hits - confidence, np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)


def calibration_metrics(log_probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns `log_loss` in nats, `brier_score` from 0 to 2, and `expected_calibration_error` in percent, by name.

    Args:
        log_probs (`np.ndarray` of shape `(N, A)`): Log probabilities; logits are normalized.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
    """
    return {
        "log_loss": log_loss(log_probs, labels),
        "brier_score": brier_score(log_probs, labels),
        "expected_calibration_error": expected_calibration_error(log_probs, labels),
    }


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature T at which `logits / T` have the least log loss (Guo et al., ICML 2017, section 4.2).

    Above 1, the model is overconfident; below, underconfident. Fit it on held-out rows, such as the validation split,
    since a model is right more often on its training rows. It does not change the order of the classes, and therefore
    not the accuracy. The log loss is convex in 1 / T, so there is one minimum.

    Args:
        logits (`np.ndarray` of shape `(N, A)`): Scores before the softmax.
        labels (`np.ndarray` of shape `(N,)`): Action ids.

    Raises:
        ValueError: If the scores are of a single class, or no finite positive T is best: each row's label has the best
            logit (T would be 0), or logits of labels are on average no higher than others (T would be infinite).
    """
    from scipy.optimize import fminbound  # slow to import

    logits, labels = check_scores(logits, labels)
    logits = logits.astype(np.float64)
    if logits.shape[1] < 2:
        raise ValueError("logits has a single class, whose probability is 1 at every temperature: give at least 2.")
    own = logits[np.arange(len(labels)), labels]
    if (own >= logits.max(axis=1)).all():
        raise ValueError(
            f"The label of each of the {len(labels)} rows has the best logit, so that the log loss falls until T is 0, "
            "and every probability would be 0 or 1: give held-out rows with some errors among them."
        )
    if own.mean() <= logits.mean():
        raise ValueError(
            "The logits of the labels are on average no higher than those of the other classes, so that the log loss "
            "falls until T is infinite: give logits (not distances or losses) of a model that is better than chance."
        )
    typical = float((logits.max(axis=1) - logits.min(axis=1)).mean())
    center, width = np.log(typical), np.log(TEMPERATURE_RANGE)

    def loss(log_temperature: float) -> float:
        return log_loss(logits / np.exp(log_temperature), labels)

    return float(np.exp(fminbound(loss, center - width, center + width, xtol=1e-7)))
