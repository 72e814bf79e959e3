"""From rows of a data set to a batch of frames, or of their features, and labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from modeling_avt.temporal_avt import REFERENCE_FEATURE_FPS
from modeling_avt.video_processing_avt import AVTVideoProcessor

from .labels import UNLABELLED


class FeatureCollator:
    """Reads the observed frames' features of rows, and stacks them with the rows' labels.

    Args:
        store (`FeatureStore`, or another object with its `feature_dim` and `read`): Where features are; copied into the
            worker processes of a `DataLoader`.
        by_number (`bool`, *optional*, defaults to `False`): Read the rows' `frame_indices`, numbers of frames at 30 a
            second, the first of them 1, in place of their `frame_times`: what the reference does with features. Its
            numbers are up to a frame behind its times.
        background (`int`, *optional*): Class A of frames in which no action is annotated: adds `frame_labels`, for
            students that recognize frames.

    Returns:
        `dict`: `video_features` float32 `(B, T, D)`, zeros where `frame_mask` bool `(B, T)` is `False` (moments before
        the video or its window begins); `labels`, `verb_labels`, `noun_labels` int64 `(B,)` and `past_labels` int64
        `(B, T)`, -100 where unlabeled; with `background` also `frame_labels` int64 `(B, T)`, -100 in padding; if
        rows carry the next Z actions `future_labels` int64 `(B, Z)`; `uid`, a list of the rows' names.
    """

    def __init__(self, store: Any, *, by_number: bool = False, background: int | None = None):
        self.store, self.by_number, self.background = store, by_number, background

    def __call__(self, rows: Sequence[dict]) -> dict:
        labels = _labels(rows, self.background)
        masks = labels["frame_mask"].numpy()  # (B, T)
        features = np.zeros((*masks.shape, self.store.feature_dim), dtype=np.float32)  # (B, T, D)
        for index, (row, mask) in enumerate(zip(rows, masks, strict=True)):
            times = np.asarray(row["frame_times"], dtype=float)
            if self.by_number:
                times = (np.asarray(row["frame_indices"]) - 1) / REFERENCE_FEATURE_FPS
            features[index, mask] = self.store.read(row["video_id"], times[mask])
        return {"video_features": torch.from_numpy(features), **labels}


class VideoCollator:
    """Decodes the observed frames of rows, and stacks them, prepared, with the rows' labels.

    Args:
        processor (`AVTVideoProcessor`): How frames are resized, cropped and normalized.
        training (`bool`, *optional*, defaults to `False`): Random short side, crop and mirroring, drawn from torch's
            own generator, which this package's trainers seed for each batch, and other loaders once in each worker.
        num_crops, flip_views (*optional*): Views to average over in evaluation: see `AVTVideoProcessor.preprocess`.
        background (`int`, *optional*): See `FeatureCollator`.

    Returns:
        `dict`: `pixel_values_videos` float32 `(B, T, 3, H, W)`, or `(B, V, T, 3, H, W)` of V views, black frames where
        `frame_mask` is `False`; for video models F frames in place of T, see `AVTVideoProcessor.read`; and the labels
        of `FeatureCollator`.

    Raises:
        ValueError: If a row has no video.
        VideoDecodeError: If a video cannot be read.
    """

    def __init__(
        self,
        processor: AVTVideoProcessor,
        *,
        training: bool = False,
        num_crops: int = 1,
        flip_views: bool = False,
        background: int | None = None,
    ):
        self.processor, self.training, self.background = processor, training, background
        self.views = {"num_crops": num_crops, "flip_views": flip_views}

    def __call__(self, rows: Sequence[dict]) -> dict:
        labels = _labels(rows, self.background)
        masks = labels["frame_mask"].numpy()  # (B, T)
        windows = [self._read(row, mask) for row, mask in zip(rows, masks, strict=True)]
        batch = self.processor(windows, training=self.training, **self.views)
        return {"pixel_values_videos": batch["pixel_values_videos"], **labels}

    def _read(self, row: dict, mask: np.ndarray) -> np.ndarray:
        """Returns the frames of a row's window, uint8 `(F, H, W, 3)`."""
        if row["video"] is None:
            raise ValueError(f"Row '{row['uid']}' has no video: give the data set's option videos, their folder.")
        return self.processor.read_window(row["video"], np.asarray(row["frame_times"]), mask)


def _labels(rows: Sequence[dict], background: int | None) -> dict:
    """Returns all of a batch but its input: see `FeatureCollator`."""
    columns = {"labels": "action", "verb_labels": "verb", "noun_labels": "noun", "past_labels": "past_actions"}
    labels = {
        name: torch.tensor(np.array([row[column] for row in rows], dtype=np.int64)) for name, column in columns.items()
    }
    if rows and "future_actions" in rows[0]:
        labels["future_labels"] = torch.tensor(np.array([row["future_actions"] for row in rows], dtype=np.int64))
    frame_mask = torch.tensor(np.array([row["frame_mask"] for row in rows], dtype=bool))  # (B, T)
    if background is not None:
        past = labels["past_labels"]
        shown = torch.where(past == UNLABELLED, background, past)
        labels["frame_labels"] = torch.where(frame_mask, shown, UNLABELLED)
    return {"frame_mask": frame_mask, **labels, "uid": [row["uid"] for row in rows]}
