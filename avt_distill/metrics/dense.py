"""Dense anticipation: the label of each future frame, measured by the mean over classes of frame accuracy.

The protocol of yabufarha/anticipating-activities (`eval.py`), which FUTR and later work use: a share alpha (0.2 or 0.3)
of a video's frames is observed and the following share beta (0.1, 0.2, 0.3, 0.5) is predicted. The frames from
`int(alpha * N)` up to, not including, `int((alpha + beta) * N)` are compared. Correct frames are counted per class over
all videos of the split, then averaged over the classes that occur in the compared frames. Breakfast's `SIL` is a class
like any other. Published numbers are means over splits: four for Breakfast, five for 50 Salads.
"""

import math
from collections.abc import Sequence

import numpy as np

from ..data.labels import UNLABELLED
from .anticipation import class_mean_percent

HORIZONS = (0.1, 0.2, 0.3, 0.5)
# Tolerance in frames: products of seconds and frame rates may miss a whole number by rounding.
ROUNDING = 1e-6


def mean_over_classes(
    predicted: Sequence[np.ndarray],
    actual: Sequence[np.ndarray],
    *,
    observed: float,
    horizons: Sequence[float] = HORIZONS,
) -> dict[str, float]:
    """Returns the mean over classes in percent at each horizon, such as `moc_0.2_0.5` (observed, predicted share).

    Args:
        predicted (sequence of `np.ndarray`): Predicted class id of each frame of each video, from the video's first
            frame to at least the end of the horizon, including observed frames, which are not compared. `-100`, no
            prediction, counts as an error.
        actual (sequence of `np.ndarray`): Annotated class id of each of the video's N frames, at the file's own rate:
            15 per second in Breakfast, 30 in 50 Salads.
        observed (`float`): Alpha, the observed share of the video. Predictions from 0.2 and from 0.3 differ: call this
            once for each.
        horizons (sequence of `float`, *optional*, defaults to `(0.1, 0.2, 0.3, 0.5)`): Beta, the shares of the video
            that follow.

    Returns:
        `dict[str, float]`: NaN at a horizon in which no video has a frame.

    Raises:
        ValueError: If there are no videos, the numbers of predicted and annotated videos differ, a share is out of
            range, a frame has no annotation, or a horizon needs frames beyond a prediction.
    """
    if len(predicted) != len(actual) or not len(actual):
        raise ValueError(f"There are {len(predicted)} predicted and {len(actual)} actual videos: give equal numbers.")
    if not 0 < observed < 1:
        raise ValueError(f"observed is {observed}: give a share between 0 and 1.")
    if not horizons or min(horizons) <= 0 or observed + max(horizons) > 1 + ROUNDING:
        raise ValueError(f"horizons is {tuple(horizons)}: give shares above 0 that end by 1 - {observed:g}.")
    videos = [_check_video(index, *video) for index, video in enumerate(zip(predicted, actual, strict=True))]
    metrics = {}
    for horizon in horizons:
        compared = [_compared(index, *video, observed, horizon) for index, video in enumerate(videos)]
        labels = np.concatenate([labels for _, labels in compared])
        hits = np.concatenate([predictions for predictions, _ in compared]) == labels
        metrics[f"moc_{observed:g}_{horizon:g}"] = class_mean_percent(hits, labels)
    return metrics


def frame_labels(
    segments: Sequence[tuple[int, float, float]],
    num_frames: int,
    frame_rate: float,
    *,
    between: int = UNLABELLED,
) -> np.ndarray:
    """Returns the class id of each frame, int64 `(num_frames,)`, from segments; frame i is at `i / frame_rate` seconds.

    Args:
        segments (sequence of `(action, start_s, end_s)`): Segments in order of time, without overlaps. A frame at
            `start_s` belongs to the segment, a frame at `end_s` does not. Segments beyond the last frame are cut off.
        num_frames (`int`): Number of frames in the video.
        frame_rate (`float`): Frames per second of the annotation file: 15 in Breakfast, 30 in 50 Salads.
        between (`int`, *optional*, defaults to `-100`): Class of frames in no segment, such as Breakfast's `SIL`. By
            default they have no prediction and count as errors.

    Raises:
        ValueError: If segments overlap, are out of order, end before they start or start before 0, an action id is
            negative, or a number is out of range.
    """
    if num_frames < 1 or not (frame_rate > 0 and math.isfinite(frame_rate)):
        raise ValueError(f"num_frames is {num_frames} and frame_rate {frame_rate}: give positive numbers.")
    labels = np.full(num_frames, between, dtype=np.int64)
    previous_end_s = 0.0
    for index, (action, start_s, end_s) in enumerate(segments):
        segment = f"segments[{index}] is ({action}, {start_s}, {end_s})"
        if action < 0:
            raise ValueError(f"{segment}: give an action id from 0.")
        if not (0 <= start_s <= end_s < math.inf):
            raise ValueError(f"{segment}: give finite seconds from 0, the end not before the start.")
        if start_s < previous_end_s - ROUNDING / frame_rate:
            raise ValueError(
                f"{segment}, and the one before ends at {previous_end_s}: give segments in the order of time that do "
                "not overlap."
            )
        first, last = (math.ceil(time_s * frame_rate - ROUNDING) for time_s in (start_s, end_s))
        labels[first:last] = action
        previous_end_s = end_s
    return labels


def _check_video(index: int, predicted: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, actual = np.asarray(predicted), np.asarray(actual)
    for name, labels in (("predicted", predicted), ("actual", actual)):
        if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{name}[{index}] has shape {labels.shape} and type {labels.dtype}: give an integer for each frame."
            )
    if (actual < 0).any():
        raise ValueError(
            f"actual[{index}] has {actual.min()}: give a class id to each frame; the protocol leaves none out."
        )
    return predicted, actual


def _compared(
    index: int, predicted: np.ndarray, actual: np.ndarray, observed: float, horizon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns predictions and labels of a video's frames within the horizon."""
    start, end = int(observed * len(actual)), min(int((observed + horizon) * len(actual)), len(actual))
    if end > len(predicted):
        raise ValueError(
            f"predicted[{index}] has {len(predicted)} frames, but {observed:g} + {horizon:g} of its {len(actual)} "
            f"frames end at {end}: predict further, or leave out the horizon {horizon:g}."
        )
    return predicted[start:end], actual[start:end]
