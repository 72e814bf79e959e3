"""Calibration of a checkpoint's answers, fitted on held-out videos and measured on others."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import scipy.special

from ..metrics import calibration_metrics, conformal_threshold, fit_temperature, label_ranks, softmax
from .statistics import bootstrap_interval

DELTA = 0.1  # probability, over the held-out videos, of a threshold that does not keep the error rate
SHORT = {"log loss": "log_loss", "Brier": "brier_score", "calibration error": "expected_calibration_error"}


def fitted_calibration(
    log_probs: np.ndarray,
    labels: np.ndarray,
    videos: Sequence[str],
    *,
    temperature: float | None = None,
    error_rate: float | None = None,
) -> dict:
    """Returns the fields of `modeling_avt.calibration_avt.Calibration`, fitted on rows that no model was trained on.

    The guarantee of the threshold ignores two things: the temperature and the weights of a pool are fitted on the same
    rows as the threshold, and the final student is trained on all of their videos.

    Args:
        log_probs (`np.ndarray` of shape `(N, A)`): Scores of held-out rows.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
        videos (sequence of `str`): The video, or performance, of each row.
        temperature (`float`, *optional*): The temperature. Default: fitted. Pass 1 for a pool whose weights minimize
            the log loss on these rows.
        error_rate (`float`, *optional*): Share of the answers that may be wrong: see `metrics.conformal_threshold`.
            `None`: answers are never withheld.
    """
    temperature = fit_temperature(log_probs, labels) if temperature is None else temperature
    if error_rate is None:
        return {"temperature": temperature}
    scores = log_probs / temperature
    correct = label_ranks(scores, labels) < 1
    threshold = conformal_threshold(softmax(scores).max(1), correct, np.asarray(videos), error_rate, delta=DELTA)
    return {"temperature": temperature, "error_rate": error_rate, "threshold": threshold, "delta": DELTA}


def measured_calibration(
    of_seeds: Sequence[np.ndarray], labels: np.ndarray, videos: Sequence[str], calibrations: Sequence[dict]
) -> dict:
    """Returns metrics before and after calibration on the rows of an evaluation split, averaged over seeds.

    Args:
        of_seeds (sequence of S `np.ndarray` of shape `(M, A)`): Log probabilities, before calibration.
        labels (`np.ndarray` of shape `(M,)`): Action ids.
        videos (sequence of M `str`): As in `fitted_calibration`; intervals resample them.
        calibrations (sequence of M `dict`): The calibration of each row, since folds are calibrated separately.

    Returns:
        `dict`: `before` and `after`, `metrics.calibration_metrics` each; and with an `error_rate` also `coverage`, the
        share of rows that are answered, `error`, the share of these that are wrong, and `low` and `high`, its interval
        of 95 %; in percent. `error` and its interval are `None` if nothing is answered.
    """
    temperatures = np.array([calibration["temperature"] for calibration in calibrations])
    after = [scipy.special.log_softmax(log_probs / temperatures[:, None], axis=1) for log_probs in of_seeds]
    measured: dict = {"before": _mean_metrics(of_seeds, labels), "after": _mean_metrics(after, labels)}
    error_rate = calibrations[0].get("error_rate")
    if error_rate is None:
        return measured
    thresholds = np.array([np.inf if (c := row["threshold"]) is None else c for row in calibrations])
    outcomes = np.stack([_outcomes(log_probs, labels, thresholds) for log_probs in after], axis=1)  # (M, S)
    measured |= {"error_rate": 100 * error_rate, "coverage": 100 * float((outcomes >= 0).mean())}
    if not (outcomes >= 0).any():
        return measured | {"error": None, "low": None, "high": None}
    found = bootstrap_interval(outcomes, _error_among_answers, groups=np.asarray(videos))
    return measured | {"error": 100 * found.value, "low": 100 * found.low, "high": 100 * found.high}


def calibration_table(calibration: Mapping[str, dict]) -> str:
    """Returns results of `measured_calibration` as text, one line for each name."""
    lines = {}
    for name, found in calibration.items():
        line = {
            short: f"{found['before'][measure]:.2f} -> {found['after'][measure]:.2f}"
            for short, measure in SHORT.items()
        }
        if "coverage" in found:
            line[f"answered, for {found['error_rate']:g} % errors"] = f"{found['coverage']:.1f} %"
            none = found["error"] is None
            line["errors among them"] = "-" if none else "{error:.1f} % [{low:.1f}, {high:.1f}]".format(**found)
        lines[name] = line
    return pd.DataFrame(lines).T.to_string()


def _outcomes(log_probs: np.ndarray, labels: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Returns 1 for each row with a wrong answer, 0 for a right one, and -1 for a withheld one."""
    wrong = (label_ranks(log_probs, labels) >= 1).astype(np.float64)
    return np.where(np.exp(log_probs).max(1) >= thresholds, wrong, -1.0)


def _error_among_answers(outcomes: np.ndarray, row_counts: np.ndarray) -> np.ndarray:
    """Returns the share of wrong answers in each resample, `(R, 1)`, all seeds' together: a `ResampledMetric`."""
    num_wrong, num_answers = (row_counts @ kept.sum(axis=1) for kept in (outcomes == 1, outcomes >= 0))
    return (num_wrong / np.maximum(num_answers, 1))[:, None]


def _mean_metrics(of_seeds: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, float]:
    found = [calibration_metrics(log_probs, labels) for log_probs in of_seeds]
    return {name: float(np.mean([metrics[name] for metrics in found])) for name in found[0]}
