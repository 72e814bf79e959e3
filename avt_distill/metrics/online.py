"""Online anticipation: average precision of the action in each future frame (the protocol of TeSTra and MAT).

Each frame of all test videos has a score for each class, predicted `tau` seconds earlier. Average precision is computed
per class over all frames, then averaged over the classes that occur, without the background. Background frames are
negatives of every class. Calibrated precision (De Geest et al., ECCV 2016) is w TP / (w TP + FP), w = negatives /
positives of the class: the precision that balanced classes would have.

Average precision is the sum over thresholds of (recall - previous recall) * precision, without interpolation, as in
scikit-learn. Frames with equal scores pass the threshold together, so that the order of the frames does not matter.
(TeSTra's code depends on the order in which NumPy sorts equal scores.)
"""

import numpy as np

from .checks import check_scores


def mean_average_precision(
    scores: np.ndarray, labels: np.ndarray, *, background: int | None, calibrated: bool = False
) -> float:
    """Returns the mean over the classes that occur of the average precision over frames, in percent.

    Args:
        scores (`np.ndarray` of shape `(T, C)`): Scores of the classes, background included, of the frames of all
            videos.
        labels (`np.ndarray` of shape `(T,)`): Class id of each frame. Leave out ambiguous frames.
        background (`int` or `None`): Id of the class to exclude from the mean; `None`: there is no background.
        calibrated (`bool`, *optional*, defaults to `False`): Whether to use calibrated precision.

    Returns:
        `float`: NaN if only background occurs.
    """
    by_class = per_frame_average_precision(scores, labels, background=background, calibrated=calibrated)
    found = by_class[~np.isnan(by_class)]
    return float(found.mean()) if len(found) else float("nan")


def per_frame_average_precision(
    scores: np.ndarray, labels: np.ndarray, *, background: int | None, calibrated: bool = False
) -> np.ndarray:
    """Returns the average precision of each class over frames in percent, float64 `(C,)`.

    Args:
        scores (`np.ndarray` of shape `(T, C)`): Scores of the classes, background included, of the frames of all
            videos.
        labels (`np.ndarray` of shape `(T,)`): Class id of each frame. Leave out ambiguous frames.
        background (`int` or `None`): Id of the class to exclude; `None`: there is no background.
        calibrated (`bool`, *optional*, defaults to `False`): Whether to use calibrated precision.

    Returns:
        `np.ndarray`: NaN for the background and for classes that do not occur.

    Raises:
        ValueError: If shapes do not match, a score is not finite, or a label or the background is out of range.
    """
    scores, labels = check_scores(scores, labels)
    if background is not None and not 0 <= background < scores.shape[1]:
        raise ValueError(f"background is {background}: give a class id from 0 to {scores.shape[1] - 1}, or None.")
    by_class = np.full(scores.shape[1], np.nan)
    for class_id in np.unique(labels):
        if class_id != background:
            by_class[class_id] = 100 * _average_precision(scores[:, class_id], labels == class_id, calibrated)
    return by_class


def _average_precision(scores: np.ndarray, is_class: np.ndarray, calibrated: bool) -> float:
    """Returns the average precision of one class that occurs, from 0 to 1."""
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    last_of_equals = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true_positives = np.cumsum(is_class[order])[last_of_equals]
    false_positives = last_of_equals + 1 - true_positives
    num_positives = int(true_positives[-1])
    if not calibrated:
        precision = true_positives / (true_positives + false_positives)
    elif num_positives == len(scores):
        precision = np.ones(len(true_positives))  # without negatives w is 0, and nothing is false
    else:
        weighted = (len(scores) - num_positives) / num_positives * true_positives
        precision = weighted / (weighted + false_positives)
    return float(np.diff(true_positives, prepend=0) @ precision / num_positives)
