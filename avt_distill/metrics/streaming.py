"""Streaming accuracy: answers count only once they have been computed (Furnari and Farinella, ICPR 2022).

A busy method skips the windows that end meanwhile. An answer is ready at the end of its window plus its runtime; for an
action that starts at s, the newest answer ready at or before s - tau_a counts. Slow methods therefore answer from older
video. A row without any answer in time is an error. With a runtime of 0 and a window that ends at s - tau_a of each
action, these are the offline metrics.

    index = streaming_indices(starts_s, window_ends_s, runtimes_s, tau_a=1.0)
    metrics = streaming_metrics(window_scores, labels, index)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .anticipation import anticipation_metrics
from .checks import check_labels, check_matrix

# Times that differ by less are treated as equal, so that 0.1 + 0.2 s is ready at 0.3 s.
ROUNDING_S = 1e-9


def ready_answers(
    window_ends_s: np.ndarray | Sequence[float], runtimes_s: float | np.ndarray | Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the processed windows of one video, int64 `(P,)`, and when each answer is ready, seconds
    `(P,)`.

    A window is processed if the method is idle at its end. One that ends while the method is busy is never processed.

    Args:
        window_ends_s (`np.ndarray` of shape `(W,)`): When each observed window ends, ascending, on the video's clock.
        runtimes_s (`float` or `np.ndarray` of shape `(W,)`): Runtime of the method in seconds, for all windows or for
            each.

    Raises:
        ValueError: If times do not ascend or are not finite, or a runtime is negative.
    """
    ends = _check_times("window_ends_s", window_ends_s)
    if (np.diff(ends) <= 0).any():
        raise ValueError("window_ends_s does not ascend: give one video's windows, each ending after the one before.")
    runtimes = _check_runtimes(runtimes_s, len(ends))
    processed, ready, free_s = [], [], -np.inf
    for index, (end_s, runtime_s) in enumerate(zip(ends.tolist(), runtimes.tolist(), strict=True)):
        if end_s >= free_s - ROUNDING_S:
            free_s = end_s + runtime_s
            processed.append(index)
            ready.append(free_s)
    return np.array(processed, dtype=np.int64), np.array(ready, dtype=np.float64)


def streaming_indices(
    starts_s: np.ndarray | Sequence[float],
    window_ends_s: np.ndarray | Sequence[float],
    runtimes_s: float | np.ndarray | Sequence[float],
    *,
    tau_a: float,
    videos: np.ndarray | Sequence | None = None,
    window_videos: np.ndarray | Sequence | None = None,
) -> np.ndarray:
    """Returns the window whose answer counts for each action, int64 `(N,)`; -1 if none is ready in time.

    Args:
        starts_s (`np.ndarray` of shape `(N,)`): When each action starts.
        window_ends_s (`np.ndarray` of shape `(W,)`): When each observed window ends, ascending within a video.
        runtimes_s (`float` or `np.ndarray` of shape `(W,)`): Runtime of the method in seconds, for all windows or for
            each.
        tau_a (`float`): Seconds before the start at which an answer is due.
        videos, window_videos (sequences of length N and W, *optional*): The video of each action and of each window; by
            default all are of one. Each video is a stream of its own.

    Raises:
        ValueError: If `ready_answers` refuses its arguments, tau_a is below 0, or only one of `videos` and
            `window_videos` is given.
    """
    starts, ends = _check_times("starts_s", starts_s), _check_times("window_ends_s", window_ends_s)
    runtimes = _check_runtimes(runtimes_s, len(ends))
    if not 0 <= tau_a < np.inf:
        raise ValueError(f"tau_a is {tau_a}: give seconds from 0.")
    if (videos is None) != (window_videos is None):
        raise ValueError("Only one of videos and window_videos is given: give both, or neither for a single video.")
    of_actions = np.zeros(len(starts)) if videos is None else np.asarray(videos)
    of_windows = np.zeros(len(ends)) if window_videos is None else np.asarray(window_videos)
    for name, given, expected in (("videos", of_actions, starts), ("window_videos", of_windows, ends)):
        if given.shape != expected.shape:
            raise ValueError(f"{name} has shape {given.shape}: give one of each of the {len(expected)}.")
    indices = np.full(len(starts), -1, dtype=np.int64)
    for video in np.unique(of_actions):
        rows, windows = np.flatnonzero(of_actions == video), np.flatnonzero(of_windows == video)
        if len(windows):
            processed, ready = ready_answers(ends[windows], runtimes[windows])
            newest = np.searchsorted(ready, starts[rows] - tau_a + ROUNDING_S, side="right") - 1
            indices[rows] = np.where(newest < 0, -1, windows[processed[np.maximum(newest, 0)]])
    return indices


def streaming_metrics(scores: np.ndarray, labels: np.ndarray, indices: np.ndarray, **options: Any) -> dict[str, float]:
    """Returns `anticipation_metrics` of the answers that count; a row without one is an error in every metric.

    Args:
        scores (`np.ndarray` of shape `(W, A)`): Scores of the actions for each window.
        labels (`np.ndarray` of shape `(N,)`): Action id of each row.
        indices (`np.ndarray` of shape `(N,)`): What `streaming_indices` returns: a window each, or -1.
        **options: Options of `anticipation_metrics` except for `dropped_labels`. `unseen_mask` is of the rows, `(N,)`;
            `verb_scores` and `noun_scores` are of the windows, `(W, V)` and `(W, number of nouns)`.

    Raises:
        ValueError: If `anticipation_metrics` refuses its arguments, an index is out of range, or there are no rows.
    """
    scores = check_matrix("scores", scores)
    labels = check_labels("labels", labels, scores.shape[1])
    indices = np.asarray(indices)
    if indices.shape != labels.shape or indices.dtype.kind not in "iu" or not len(labels):
        raise ValueError(
            f"indices has shape {indices.shape} for {len(labels)} rows: give an integer a row, of 1 at least."
        )
    if indices.min() < -1 or indices.max() >= len(scores):
        raise ValueError(
            f"indices is from {indices.min()} to {indices.max()}: give -1, or one of {len(scores)} windows."
        )
    answered = indices >= 0
    # `anticipation_metrics` needs at least one row with scores: without any answer, the first window's are used, whose
    # hits are removed below.
    scored = answered if answered.any() else np.arange(len(labels)) == 0
    windows = np.maximum(indices[scored], 0)
    for name in ("verb_scores", "noun_scores"):
        if options.get(name) is not None:
            options[name] = np.asarray(options[name])[windows]
    if options.get("unseen_mask") is not None:
        mask = np.asarray(options["unseen_mask"])
        options["unseen_mask"] = np.concatenate([mask[scored], mask[~scored]]) if len(mask) == len(labels) else mask
    metrics = anticipation_metrics(scores[windows], labels[scored], dropped_labels=labels[~scored], **options)
    if answered.any():
        return metrics
    return {name: value if np.isnan(value) else 0.0 for name, value in metrics.items()}


def _check_times(name: str, times_s: np.ndarray | Sequence[float]) -> np.ndarray:
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
        raise ValueError(f"{name} has shape {times.shape}: give at least one time, all finite, in one dimension.")
    return times


def _check_runtimes(runtimes_s: float | np.ndarray | Sequence[float], num_windows: int) -> np.ndarray:
    runtimes = np.asarray(runtimes_s, dtype=np.float64)
    if runtimes.shape not in ((), (num_windows,)) or not np.isfinite(runtimes).all() or (runtimes < 0).any():
        raise ValueError(
            f"runtimes_s has shape {runtimes.shape} for {num_windows} windows: give finite seconds from 0, one for all "
            "or one for each."
        )
    return np.broadcast_to(runtimes, (num_windows,))
