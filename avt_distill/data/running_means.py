"""Running means of features: a cheap memory for students of frame-wise features, which say little of the past."""

from collections.abc import Sequence

import numpy as np


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
        ValueError: for no windows, and for ones shorter than a row.
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
