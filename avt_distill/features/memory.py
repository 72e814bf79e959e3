"""A cheap memory for students of frame-wise features, which say little of the past: running means, and evidence."""

from collections.abc import Sequence

import numpy as np
import scipy.special


def running_means(
    features: np.ndarray, frame_rate: float, windows_s: Sequence[float], *, so_far: bool = False
) -> np.ndarray:
    """Returns the means over the last seconds before and at each row, side by side, float32 `(N, W * D)`.

    Nothing after a row counts for it. Where a video is younger than a window, the mean is over what there is.

    Args:
        features (`np.ndarray` of shape `(N, D)`): Rows in the order of time.
        frame_rate (`float`): Rows per second.
        windows_s (sequence of `float`): Length of each window in seconds; one of a single row is the row itself.
        so_far (`bool`, *optional*, defaults to `False`): Adds the mean over everything until then, as the last window.

    Raises:
        ValueError: If there are no windows, or a window is shorter than a row.
    """
    lengths = [round(window_s * frame_rate) for window_s in windows_s]
    if short := [window_s for window_s, length in zip(windows_s, lengths, strict=True) if length < 1]:
        raise ValueError(f"windows_s has {short[0]}: a window must last a row, {1 / frame_rate:g} s, or longer.")
    lengths += [len(features)] if so_far else []
    if not lengths:
        raise ValueError("windows_s is empty: give at least one window, or so_far.")
    sums = np.cumsum(features, axis=0, dtype=np.float64)
    sums = np.concatenate([np.zeros_like(sums[:1]), sums])  # (N + 1, D)
    ends = np.arange(1, len(features) + 1)
    means = []
    for length in lengths:
        starts = np.maximum(ends - length, 0)
        means.append((sums[ends] - sums[starts]) / (ends - starts)[:, None])
    return np.concatenate(means, axis=1).astype(np.float32)


def softmax_scores(scores: np.ndarray, sharpness: float = 1.0) -> np.ndarray:
    """Returns a recognizer's class scores `(N, A)` as probabilities, the softmax of `sharpness` times the scores."""
    # Shifted and scaled in the scores' own precision, so that recorded features can be made again bit for bit.
    scaled = sharpness * (scores - scores.max(axis=1, keepdims=True))
    return scipy.special.softmax(scaled.astype(np.float64), axis=1)


def evidence_so_far(probabilities: np.ndarray, frame_rate: float, scale_s: float) -> np.ndarray:
    """Returns how sure it is that each class has occurred by each row, float32 `(N, A)`, from 0 to 1.

    `1 - exp(-seconds / scale_s)` of the seconds of a class so far, each counted by its probability. Unlike a mean, it
    does not fade: what was done an hour ago stays done.

    Args:
        probabilities (`np.ndarray` of shape `(N, A)`): Of the classes in each row, in the order of time.
        frame_rate (`float`): Rows per second.
        scale_s (`float`): After so many certain seconds it is 0.63.

    Raises:
        ValueError: If a value is not a probability (below 0 or above 1), or the scale is 0 or less.
    """
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError("Evidence is counted from probabilities, but there are values outside 0 to 1: softmax scores.")
    if scale_s <= 0:
        raise ValueError(f"scale_s is {scale_s}: give seconds above 0.")
    seconds = np.cumsum(probabilities, axis=0, dtype=np.float64) / frame_rate
    return (1 - np.exp(-seconds / scale_s)).astype(np.float32)
