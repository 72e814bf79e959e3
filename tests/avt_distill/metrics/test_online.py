"""Average precision over frames: compared with scikit-learn's definition, by hand, ties and absent classes."""

import numpy as np
import pytest

from avt_distill.metrics import mean_average_precision, per_frame_average_precision


def plain(scores: np.ndarray, is_class: np.ndarray, calibrated: bool) -> float:
    """One threshold for each different score, as `sklearn.metrics.average_precision_score`."""
    weight = (~is_class).sum() / is_class.sum() if calibrated else 1.0
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        hits, false = is_class[scores >= threshold].sum(), (~is_class)[scores >= threshold].sum()
        total += (hits / is_class.sum() - recall) * weight * hits / (weight * hits + false)
        recall = hits / is_class.sum()
    return 100 * total


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("decimals", [0, 8])  # with many ties, and without
def test_equals_plain_lines_whatever_the_order_of_the_frames(calibrated, decimals):
    rng = np.random.default_rng(1)
    scores, labels = rng.standard_normal((120, 5)).round(decimals), rng.choice(5, 120, p=[0.5, 0.3, 0.15, 0.05, 0])
    found = per_frame_average_precision(scores, labels, background=0, calibrated=calibrated)
    assert np.isnan(found[[0, 4]]).all()  # the background, and a class that does not occur
    expected = [plain(scores[:, class_id], labels == class_id, calibrated) for class_id in (1, 2, 3)]
    np.testing.assert_allclose(found[1:4], expected)
    mean = mean_average_precision(scores, labels, background=0, calibrated=calibrated)
    assert mean == pytest.approx(np.mean(expected))
    order = rng.permutation(120)
    np.testing.assert_allclose(
        per_frame_average_precision(scores[order], labels[order], background=0, calibrated=calibrated), found
    )


def test_by_hand():
    scores, labels = np.array([[0.0, 0.9], [0.0, 0.8], [0.0, 0.7], [0.0, 0.6]]), np.array([1, 0, 1, 0])
    # Positives at ranks 1 and 3: precision 1 and 2/3. Calibrated, w = 1: the same.
    assert mean_average_precision(scores, labels, background=0) == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert mean_average_precision(scores, labels, background=0, calibrated=True) == pytest.approx(100 * (1 + 2 / 3) / 2)
    # One positive, second of four: precision 1/2; with w = 3, 3 / (3 + 1).
    labels = np.array([0, 1, 0, 0])
    assert mean_average_precision(scores, labels, background=0) == pytest.approx(50.0)
    assert mean_average_precision(scores, labels, background=0, calibrated=True) == pytest.approx(75.0)


def test_constant_scores_have_the_share_of_the_class_and_half_if_calibrated():
    scores, labels = np.zeros((10, 2)), np.array([1] * 3 + [0] * 7)
    assert per_frame_average_precision(scores, labels, background=0)[1] == pytest.approx(30.0)
    assert per_frame_average_precision(scores, labels, background=0, calibrated=True)[1] == pytest.approx(50.0)


def test_a_class_without_negatives_is_perfect_and_background_alone_has_no_mean():
    for calibrated in (False, True):
        assert mean_average_precision(np.zeros((3, 2)), [1, 1, 1], background=None, calibrated=calibrated) == 100.0
    assert np.isnan(mean_average_precision(np.zeros((3, 2)), [0, 0, 0], background=0))


def test_refuses():
    with pytest.raises(ValueError, match="background is 2: give a class id from 0 to 1, or None"):
        mean_average_precision(np.zeros((3, 2)), [0, 1, 1], background=2)
    with pytest.raises(ValueError, match="labels has 1 rows of -100"):
        mean_average_precision(np.zeros((3, 2)), [0, 1, -100], background=0)
