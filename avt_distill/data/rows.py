"""Conversion of segments to anticipation rows: one row for each action that can be anticipated."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modeling_avt.temporal_avt import TIME_RULES, observed_window, sample_frames

from ..runs.options import NUM_FUTURE_ACTIONS
from .future import future_segments
from .history import action_histories
from .past_labels import label_frames
from .segments import AnnotationError, is_before

logger = logging.getLogger(__name__)

ROW_RULES = {**TIME_RULES, "num_future_actions": NUM_FUTURE_ACTIONS}


@dataclass
class RowOptions:
    """Options for converting segments to rows.

    Args:
        tau_a (`float`): Seconds between the end of the observed window and the start of the action.
        tau_o (`float`): Length of the observed window in seconds.
        num_frames (`int`): Frames T sampled in the window.
        frame_rate (`float`): Frames sampled per second.
        protocol (`str`): `"exact"` or `"avt"`: see `modeling_avt.temporal_avt`.
        source (`str`): `"video"` or `"features"`: what `frame_indices` count under protocol `"avt"`.
        history_cutoff (`str`): `"started"`, `"ended"` or `"segment_start"`: see `history.action_histories`.
        num_future_actions (`int`): Z, the number of next actions in each row: see `future.future_segments`. 0: rows
            have no such columns.
    """

    tau_a: float = 1.0
    tau_o: float = 10.0
    num_frames: int = 10
    frame_rate: float = 1.0
    protocol: str = "exact"
    source: str = "video"
    history_cutoff: str = "started"
    num_future_actions: int = 0

    def __post_init__(self):
        for name, rule in ROW_RULES.items():
            setattr(self, name, rule(name, getattr(self, name)))


def can_be_anticipated(segments: pd.DataFrame, options: RowOptions) -> np.ndarray:
    """Returns which actions have a window that ends at or after the first frame, bool `(N,)`; others have no row."""
    observed_end_s = segments["start_s"].to_numpy() - options.tau_a
    if options.protocol == "exact":
        return ~is_before(observed_end_s, 0.0)
    # The reference keeps windows that end at 1/30 s or later (drop_style "correct", base_video_dataset.py:105).
    return observed_end_s >= 1 / 30


def anticipation_rows(
    segments: pd.DataFrame,
    options: RowOptions,
    *,
    video_fps: dict[str, float],
    history_segments: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Returns one row for each action that can be anticipated.

    Args:
        segments (`pd.DataFrame`): The segment table of one split.
        options (`RowOptions`): Options of the rows.
        video_fps (`dict[str, float]`): Frames per second of each video.
        history_segments (`pd.DataFrame`, *optional*): The segment table from which histories are taken. Default:
            `segments`.

    The rows have the columns `uid`, `video_id`, `start_s`, `end_s`, `observed_start_s`, `observed_end_s`,
    `frame_times`, `frame_indices`, `frame_mask`, `past_actions` (arrays of T), `action`, `verb`, `noun`, `history`,
    `narration`; with `num_future_actions` also `future_actions`, `future_start_s`, `future_end_s` (arrays of Z).
    Past actions come from segments of the same split: under `"avt"` from its kept rows, as in the reference.
    """
    kept = can_be_anticipated(segments, options)
    logger.info("%d of %d actions start too early to be anticipated and are left out.", (~kept).sum(), len(segments))
    if not kept.any():
        raise AnnotationError(
            f"None of the {len(segments)} actions can be anticipated with tau_a={options.tau_a}: all start too early, "
            "so give a smaller tau_a."
        )
    rows = segments[kept].reset_index(drop=True)
    rows["observed_start_s"], rows["observed_end_s"] = observed_window(rows["start_s"], options.tau_a, options.tau_o)
    times, masks, indices = _sample_all(rows, options, video_fps)
    label_from = rows if options.protocol == "avt" else segments
    labels = label_frames(
        rows["video_id"].to_numpy(),
        np.where(masks, times, np.nan),
        label_from,
        protocol=options.protocol,
        before_s=np.asarray(rows["start_s"]),
    )
    rows["frame_times"], rows["frame_indices"] = list(times), list(indices)
    rows["frame_mask"], rows["past_actions"] = list(masks), list(labels)
    history_segments = segments if history_segments is None else history_segments
    rows["history"] = action_histories(rows, history_segments, cutoff=options.history_cutoff)
    if options.num_future_actions:
        rows = rows.assign(**future_segments(rows, segments, options.num_future_actions))
    return rows


def _sample_all(rows: pd.DataFrame, options: RowOptions, video_fps: dict[str, float]) -> Iterator[np.ndarray]:
    """Yields the times, masks and indices of `sample_frames` for all rows, `(N, T)` each."""
    unknown = sorted(set(rows["video_id"]) - set(video_fps))
    if unknown:
        raise AnnotationError(
            f"The frame rate of {len(unknown)} videos is not known, '{unknown[0]}' first: set "
            "video_fps, or complete the benchmark's table of videos."
        )
    sampling = (options.frame_rate, options.num_frames, options.protocol, options.source)
    windows = zip(rows["observed_start_s"], rows["observed_end_s"], rows["video_id"].map(video_fps), strict=True)
    sampled = [sample_frames(*window, *sampling) for window in windows]
    return (np.stack(arrays) for arrays in zip(*sampled, strict=True))
