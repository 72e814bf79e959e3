"""Probabilities: scores compared with a plain loop and by hand, known temperatures, and refusals."""

import numpy as np
import pytest
import scipy.special

from avt_distill.metrics import (
    brier_score,
    calibration_metrics,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    row_brier_scores,
    row_log_losses,
)


def draw(num_rows: int = 50, num_classes: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((num_rows, num_classes)), rng.integers(0, num_classes - 2, num_rows)


def test_scores_equal_plain_lines_and_are_means_over_rows():
    logits, labels = draw()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    squares = [((row - np.eye(6)[label]) ** 2).sum() for row, label in zip(probabilities, labels, strict=True)]
    np.testing.assert_allclose(row_brier_scores(logits, labels), squares)
    assert brier_score(logits, labels) == pytest.approx(np.mean(squares))
    losses = [-np.log(row[label]) for row, label in zip(probabilities, labels, strict=True)]
    np.testing.assert_allclose(row_log_losses(logits, labels), losses)
    confidence, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.floor(confidence * 15)
    rows_of = [bins == number for number in set(bins)]
    gaps = [abs(hits[rows].mean() - confidence[rows].mean()) * rows.mean() for rows in rows_of]
    assert calibration_metrics(logits, labels) == {
        "log_loss": pytest.approx(np.mean(losses)),
        "brier_score": pytest.approx(np.mean(squares)),
        "expected_calibration_error": pytest.approx(100 * sum(gaps)),
    }


def test_brier_score_by_hand():
    log_probs = np.log([[0.5, 0.25, 0.25]])
    assert brier_score(log_probs, [0]) == pytest.approx(0.25 + 2 * 0.0625)
    certain = np.array([[0.0, 1000.0]])
    assert brier_score(certain, [1]) == 0.0
    assert brier_score(certain, [0]) == 2.0
    assert brier_score(np.zeros((3, 4)), [0, 1, 2]) == pytest.approx(0.75)  # constant scores: 1 - 1 / A


def test_expected_calibration_error_refuses_no_bins():
    with pytest.raises(ValueError, match="num_bins is 0"):
        expected_calibration_error(*draw(), num_bins=0)


@pytest.mark.parametrize("temperature", [1e-4, 0.5, 1.0, 3.0, 1e4])
def test_the_temperature_of_drawn_labels_is_found(temperature):
    rng = np.random.default_rng(0)
    true_logits = 2 * rng.standard_normal((20_000, 5))
    labels = (scipy.special.softmax(true_logits, axis=1).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    labels = np.minimum(labels, 4)
    assert fit_temperature(temperature * true_logits, labels) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_has_a_lower_log_loss():
    logits, labels = draw(200)
    logits[np.arange(200), labels] += 1
    found = fit_temperature(logits, labels)
    best = log_loss(logits / found, labels)
    assert all(log_loss(logits / other, labels) >= best for other in np.geomspace(found / 100, found * 100, 201))
    assert best <= log_loss(logits, labels)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), r"scores has shape \(0, 3\)"),
        (np.zeros((4, 1)), np.zeros(4, int), "a single class"),
        (10 * np.eye(3), np.arange(3), "each of the 3 rows has the best logit"),
        (np.zeros((3, 3)), np.arange(3), "each of the 3 rows has the best logit"),
        (-np.eye(3), np.arange(3), "no higher than those of the other classes"),
    ],
)
def test_temperatures_that_do_not_exist_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)
