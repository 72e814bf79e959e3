"""The actions before an action, as the text teacher reads them."""

import numpy as np
import pandas as pd

CUTOFFS = ("started", "ended", "segment_start")


def action_histories(rows: pd.DataFrame, segments: pd.DataFrame, *, cutoff: str = "started") -> list[np.ndarray]:
    """Returns the action ids before each row's action, int64, oldest first, as many as there are.

    Args:
        rows (`pd.DataFrame`): `video_id`, `start_s` (of the action) and `observed_end_s` of N rows.
        segments (`pd.DataFrame`): The segment table that histories are taken from; unlabeled segments are left out.
        cutoff (`str`, *optional*, defaults to `"started"`): Which segments of the video count. `"started"`: those that
            began before the observed window ended, which a perfect recognizer could have recognized by then. `"ended"`:
            those that were over by then. `"segment_start"`: those that began before the action, `tau_a` ignored, which
            includes the gap that anticipation is about (the reference's teacher appears to).

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
    actions = segments["action"].to_numpy()
    if cutoff == "ended":
        over = segments["end_s"].to_numpy() <= rows["observed_end_s"].to_numpy()[:, None]  # (rows, segments)
        over &= (
            segments["start_s"].to_numpy() < rows["start_s"].to_numpy()[:, None]
        )  # not an action of no length itself
        return [actions[mask] for mask in over]
    until = rows["observed_end_s"] if cutoff == "started" else rows["start_s"]
    counts = np.searchsorted(segments["start_s"].to_numpy(), until.to_numpy(), side="left")
    return [actions[:count] for count in counts]
