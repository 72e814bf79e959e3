"""Calibration fitted on some videos keeps its guarantees on others."""

import numpy as np
import pytest

from avt_distill.evaluation.calibrating import fitted_calibration, measured_calibration
from avt_distill.metrics import fit_temperature, softmax


def drawn(num_videos: int, seed: int, sharpness: float = 3.0, rows_per_video: int = 8):
    """Rows with labels drawn from softmax(scores / sharpness), as of an overconfident model."""
    generator = np.random.default_rng(seed)
    scores = 6 * generator.normal(size=(num_videos * rows_per_video, 5))
    chances = softmax(scores / sharpness).cumsum(1)
    labels = (generator.random((len(scores), 1)) > chances).sum(1)
    return scores, labels, [f"v{number // rows_per_video}" for number in range(len(scores))]


def test_the_temperature_undoes_what_made_the_model_too_sure():
    scores, labels, videos = drawn(200, 0)
    calibration = fitted_calibration(scores, labels, videos)
    assert calibration == {"temperature": pytest.approx(3, rel=0.15)}
    assert calibration["temperature"] == fit_temperature(scores, labels)
    measured = measured_calibration([scores], labels, videos, [calibration] * len(labels))
    assert measured["after"]["log_loss"] < measured["before"]["log_loss"]
    assert measured["after"]["expected_calibration_error"] < measured["before"]["expected_calibration_error"] / 2
    assert set(measured) == {"before", "after"}


def test_errors_among_answers_stay_below_the_rate():
    held_out, others = drawn(300, 0), drawn(400, 1)
    calibration = fitted_calibration(*held_out, error_rate=0.2)
    assert 0 < calibration["threshold"] < 1
    assert (calibration["error_rate"], calibration["delta"]) == (0.2, 0.1)
    scores, labels, videos = others
    measured = measured_calibration([scores], labels, videos, [calibration] * len(labels))
    probabilities = softmax(scores / calibration["temperature"])
    answered = probabilities.max(1) >= calibration["threshold"]
    wrong = probabilities.argmax(1) != labels
    assert measured["coverage"] == pytest.approx(100 * answered.mean())
    assert measured["error"] == pytest.approx(100 * wrong[answered].mean())
    assert measured["low"] < measured["error"] < measured["high"]
    assert measured["error"] < 20 < 100 * wrong.mean()


def test_seeds_are_put_together_and_rows_keep_their_own_calibration():
    scores = np.log([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    labels, videos = np.array([0, 1, 0, 1]), ["a", "a", "b", "b"]
    of_a, of_b = ({"temperature": 1.0, "error_rate": 0.5, "threshold": t, "delta": 0.1} for t in (0.75, None))
    measured = measured_calibration([scores, scores[:, ::-1]], labels, videos, [of_a, of_a, of_b, of_b])
    # For video a, both seeds answer both rows, each with one error; for b, neither answers.
    assert (measured["coverage"], measured["error"]) == (50.0, 50.0)
    assert measured["error_rate"] == 50.0


def test_no_row_is_answered_without_a_threshold():
    scores, labels, videos = drawn(3, 0)
    calibration = fitted_calibration(scores, labels, videos, error_rate=0.05)
    assert calibration["threshold"] is None
    measured = measured_calibration([scores], labels, videos, [calibration] * len(labels))
    assert (measured["coverage"], measured["error"], measured["low"], measured["high"]) == (0.0, None, None, None)


def test_a_temperature_that_is_given_is_kept():
    scores, labels, videos = drawn(20, 0)
    assert fitted_calibration(scores, labels, videos, temperature=1.0) == {"temperature": 1.0}
