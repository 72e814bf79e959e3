"""Running means and evidence: worked examples, no influence of later rows, and invalid input."""

import numpy as np
import pytest

from avt_distill.features.memory import evidence_so_far, running_means, softmax_scores

FEATURES = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0], [7.0, 0.0]])


def test_means_equal_a_worked_example():
    means = running_means(FEATURES, 2.0, [0.5, 1.0], so_far=True)  # 1 row, 2 rows, all
    assert means.dtype == np.float32
    np.testing.assert_allclose(means[:, :2], FEATURES)
    np.testing.assert_allclose(means[:, 2:4], [[1, 0], [2, 0], [4, 3], [6, 3]])
    np.testing.assert_allclose(means[:, 4:], [[1, 0], [2, 0], [3, 2], [4, 1.5]])


def test_rows_after_a_moment_do_not_count():
    later = FEATURES.copy()
    later[2:] = 1e6
    first = running_means(FEATURES, 1.0, [1, 3], so_far=True)[:2]
    np.testing.assert_array_equal(running_means(later, 1.0, [1, 3], so_far=True)[:2], first)


@pytest.mark.parametrize(("windows", "message"), [([0.2], "one row, 0.5 s"), ([], "windows_s is empty")])
def test_windows_that_cannot_be_are_refused(windows, message):
    with pytest.raises(ValueError, match=message):
        running_means(FEATURES, 2.0, windows)


def test_evidence_equals_a_worked_example_and_does_not_fade():
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]])
    evidence = evidence_so_far(probabilities, 0.5, 3.0)  # a row lasts 2 s
    expected = 1 - np.exp(-np.array([[2, 0], [3, 1], [3, 3], [3, 5]]) / 3)
    np.testing.assert_allclose(evidence, expected, rtol=1e-6)


def test_scores_become_probabilities():
    scores = np.array([[1.0, 1.0 + np.log(3) / 2], [800.0, -800.0]])
    np.testing.assert_allclose(softmax_scores(scores, 2.0), [[0.25, 0.75], [1, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("values", "scale_s", "message"), [([[1.2]], 1.0, "outside 0 to 1"), ([[0.5]], 0.0, "scale_s is 0.0")]
)
def test_evidence_of_what_is_no_probability_is_refused(values, scale_s, message):
    with pytest.raises(ValueError, match=message):
        evidence_so_far(np.array(values), 1.0, scale_s)
