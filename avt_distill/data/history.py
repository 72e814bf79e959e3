"""Action histories: the actions before each row's action, which the text teacher reads."""

import numpy as np
import pandas as pd

from .segments import is_before

CUTOFFS = ("started", "ended", "segment_start")


def action_histories(rows: pd.DataFrame, segments: pd.DataFrame, *, cutoff: str = "started") -> list[np.ndarray]:
    """Returns all action ids before each row's action, int64 arrays of any length, oldest first.

    Args:
        rows (`pd.DataFrame`): `video_id`, `start_s` (of the action) and `observed_end_s` of N rows.
        segments (`pd.DataFrame`): The segment table that histories are taken from; unlabeled segments are left out.
        cutoff (`str`, *optional*, defaults to `"started"`): Which segments of the video to include. `"started"`: those
            that began before the end of the observed window, which a perfect recognizer could have recognized by then.
            `"ended"`: those that ended at or before it. `"segment_start"`: those that began before the action, ignoring
            `tau_a`, which includes the anticipation gap itself (as the reference's teacher appears to). Times are
            compared by `segments.is_before`.

    Raises:
        ValueError: If `cutoff` is none of these.
    """
    if cutoff not in CUTOFFS:
        raise ValueError(f"history_cutoff is '{cutoff}': give one of {CUTOFFS}.")
    ordered = segments[segments["action"] >= 0].sort_values(["video_id", "start_s", "end_s"], kind="stable")
    of_video = dict(list(ordered.groupby("video_id", sort=False)))
    histories = [np.empty(0, dtype=np.int64)] * len(rows)
    for video_id, positions in rows.groupby("video_id", sort=False).indices.items():
        past = _histories_in_video(rows.iloc[positions], of_video.get(video_id, ordered[:0]), cutoff)
        for position, history in zip(positions, past, strict=True):
            histories[position] = history
    return histories


def _histories_in_video(rows: pd.DataFrame, segments: pd.DataFrame, cutoff: str) -> list[np.ndarray]:
    actions, begin = segments["action"].to_numpy(), segments["start_s"].to_numpy()
    observed_end, start = (rows[name].to_numpy()[:, None] for name in ("observed_end_s", "start_s"))
    if cutoff == "ended":
        past = ~is_before(observed_end, segments["end_s"].to_numpy())  # (rows, segments)
        # Excludes the action itself if its length is 0.
        past &= is_before(begin, start)
    else:
        past = is_before(begin, observed_end if cutoff == "started" else start)
    return [actions[mask] for mask in past]
