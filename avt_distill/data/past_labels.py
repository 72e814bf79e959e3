"""Labels of the observed frames of all rows of a table: past actions, and what the frames themselves show."""

import numpy as np
import pandas as pd

from .labels import UNLABELLED
from .segments import is_before


def label_frames(
    video_ids: np.ndarray,
    frame_times: np.ndarray,
    segments: pd.DataFrame,
    *,
    protocol: str = "exact",
    before_s: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the action at each time of each row, int64 `(N, T)`, -100 where nothing is annotated.

    Args:
        video_ids (`np.ndarray` of shape `(N,)`): The video of each row.
        frame_times (`np.ndarray` of shape `(N, T)`): Seconds from the first frame; NaN gets -100.
        segments (`pd.DataFrame`): A segment table. Only segments of a row's own video label it.
        protocol (`str`, *optional*, defaults to `"exact"`): `"exact"`: a segment labels `start_s <= t < end_s`,
            compared by `segments.is_before`; if several do, the one with the nearest center. `"avt"`: `start_s <= t <=
            end_s`; if several do, the one whose half-duration is nearest to `t` (AVT's
            datasets/base_video_dataset.py:721-762 omits the start, so that in practice the longest wins; the center
            would be natural). Ties go to the first in the table.
        before_s (`np.ndarray` of shape `(N,)`, *optional*): Only segments that begin before this time label a row. Set
            it to the start of the row's action: with `tau_a` 0, the last frame would otherwise carry the label to
            predict.
    """
    labels = np.full(frame_times.shape, UNLABELLED, dtype=np.int64)
    rows_of_video = pd.Series(np.arange(len(video_ids))).groupby(np.asarray(video_ids, dtype=object)).indices
    for video_id, annotated in segments.groupby("video_id", sort=False):
        rows = rows_of_video.get(video_id)
        if rows is not None:
            until = np.full(len(rows), np.inf) if before_s is None else before_s[rows]
            labels[rows] = _label_video(frame_times[rows], annotated, protocol, until)
    return labels


def shown_actions(
    video_ids: np.ndarray, frame_times: np.ndarray, segments: pd.DataFrame, num_actions: int
) -> np.ndarray:
    """Returns what is shown at each time of each row, int64 `(N, T)`: an action 0..A-1, the background A outside of
    segments, -100 in segments without an action and at times that are NaN.

    Unlike `label_frames`, it tells the background from unlabeled segments.

    Args:
        video_ids, frame_times, segments: As in `label_frames`.
        num_actions (`int`): A.
    """
    without_action = -1
    actions = segments["action"].where(segments["action"] >= 0, without_action)
    labels = label_frames(video_ids, frame_times, segments.assign(action=actions))
    is_unknown = (labels == without_action) | np.isnan(frame_times)
    return np.select([is_unknown, labels == UNLABELLED], [UNLABELLED, num_actions], labels)


def _label_video(times: np.ndarray, segments: pd.DataFrame, protocol: str, before_s: np.ndarray) -> np.ndarray:
    start, end, action = (segments[name].to_numpy() for name in ("start_s", "end_s", "action"))
    times = times[..., None]  # (rows, T, 1) against (segments,)
    if protocol == "avt":
        inside, centre = (start <= times) & (times <= end), (end - start) / 2
    else:
        inside, centre = ~is_before(times, start) & is_before(times, end), (start + end) / 2
    inside &= start < before_s[:, None, None]
    distance = np.where(inside, np.abs(times - centre), np.inf)
    nearest = distance.argmin(-1)
    return np.where(inside.any(-1), action[nearest], UNLABELLED)
