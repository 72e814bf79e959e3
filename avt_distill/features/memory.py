"""Cheap memory of earlier frames for students of frame-wise features: running means, and evidence of past classes."""

from collections.abc import Sequence

import numpy as np
import scipy.special


def running_means(
    features: np.ndarray, frame_rate: float, windows_s: Sequence[float], *, so_far: bool = False
) -> np.ndarray:
    """Returns the means over W windows that end at each row, concatenated, float32 `(N, W * D)`.

    Later rows are never used. If a window extends before the first row, the mean is over the existing rows.

    Args:
        features (`np.ndarray` of shape `(N, D)`): Rows in order of time.
        frame_rate (`float`): Rows per second.
        windows_s (sequence of `float`): Length of each window in seconds. A window of one row is the row itself.
        so_far (`bool`, *optional*, defaults to `False`): Whether to add the mean over all rows so far as the last
            window.

    Raises:
        ValueError: If there are no windows, or a window is shorter than a row.
    """
    lengths = [round(window_s * frame_rate) for window_s in windows_s]
    if short := [window_s for window_s, length in zip(windows_s, lengths, strict=True) if length < 1]:
        raise ValueError(f"windows_s has {short[0]}: give windows of at least one row, {1 / frame_rate:g} s.")
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
    # Shifted and scaled in the scores' own dtype, so that recorded features can be reproduced bit for bit.
    scaled = sharpness * (scores - scores.max(axis=1, keepdims=True))
    return scipy.special.softmax(scaled.astype(np.float64), axis=1)


def evidence_so_far(probabilities: np.ndarray, frame_rate: float, scale_s: float) -> np.ndarray:
    """Returns the evidence that each class has occurred by each row, float32 `(N, A)`, from 0 to 1.

    `1 - exp(-seconds / scale_s)`, where `seconds` is the time of a class so far, weighted by its probability. Unlike a
    mean, it does not fade: an action of an hour ago still counts.

    Args:
        probabilities (`np.ndarray` of shape `(N, A)`): Probabilities of the classes in each row, in order of time.
        frame_rate (`float`): Rows per second.
        scale_s (`float`): Seconds after which the evidence of a certain class is 0.63.

    Raises:
        ValueError: If a value is not a probability (below 0 or above 1), or the scale is 0 or less.
    """
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError("probabilities has values outside 0 to 1: convert class scores with softmax_scores first.")
    if scale_s <= 0:
        raise ValueError(f"scale_s is {scale_s}: give seconds above 0.")
    seconds = np.cumsum(probabilities, axis=0, dtype=np.float64) / frame_rate
    return (1 - np.exp(-seconds / scale_s)).astype(np.float32)
