"""The actions after an observed window, for predicting several actions ahead."""

import numpy as np
import pandas as pd

from .labels import UNLABELLED

FUTURE_COLUMNS = ("future_actions", "future_start_s", "future_end_s")


def future_segments(rows: pd.DataFrame, segments: pd.DataFrame, num_future_actions: int) -> dict[str, list[np.ndarray]]:
    """Returns the next Z actions of each row: its own action, then the following ones.

    The segments of a video are ordered by start, and those with equal starts by their order in the table. A row's
    future is its own segment and the Z - 1 after it in this order, regardless of where earlier segments end.
    Overlapping segments are therefore all listed; of two with equal starts, the second is in the future of the first,
    but not vice versa.

    Args:
        rows (`pd.DataFrame`): N rows with a `uid` of a segment each.
        segments (`pd.DataFrame`): The segment table of the rows' split. Futures contain no segments of other splits.
        num_future_actions (`int`): Z.

    Returns:
        `dict`: For each row, `future_actions` int64 `(Z,)`, -100 for unlabeled segments and after the annotations end;
        `future_start_s` and `future_end_s` float64 `(Z,)`, seconds from the first frame, NaN after the end of the
        annotations.
    """
    ordered = segments.sort_values(["video_id", "start_s"], kind="stable")
    own = pd.Series(np.arange(len(ordered)), index=ordered["uid"]).loc[rows["uid"]].to_numpy()
    positions = own[:, None] + np.arange(num_future_actions)  # (N, Z)
    of_video = ordered["video_id"].to_numpy()
    last = pd.Series(np.arange(len(ordered))).groupby(of_video).transform("max").to_numpy()
    is_annotated = positions <= last[own, None]
    positions = np.where(is_annotated, positions, 0)
    actions = np.where(is_annotated, ordered["action"].to_numpy()[positions], UNLABELLED)
    times = (np.where(is_annotated, ordered[name].to_numpy()[positions], np.nan) for name in ("start_s", "end_s"))
    return {name: list(values) for name, values in zip(FUTURE_COLUMNS, (actions, *times), strict=True)}
