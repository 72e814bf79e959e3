"""Collators from rows of a data set to batches of frames or features, with labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from modeling_avt.temporal_avt import REFERENCE_FEATURE_FPS
from modeling_avt.video_processing_avt import AVTVideoProcessor

from .labels import UNLABELLED


class FeatureCollator:
    """Collates rows to a batch of the features of their observed frames, and labels.

    Args:
        store (`FeatureStore`, or another object with its `feature_dim` and `read`): The store to read features from. It
            is copied into the worker processes of a `DataLoader`.
        by_number (`bool`, *optional*, defaults to `False`): Whether to read the features at the rows' `frame_indices`,
            numbers of frames at 30 per second counted from 1, instead of their `frame_times`, as the reference does.
            Its numbers lag its times by up to one frame.
        frame_labels (`Mapping[str, np.ndarray]`, *optional*): What the observed frames of each row show, `(T,)` by
            uid: see `past_labels.shown_actions`. Adds them to the batch, for students that recognize frames.

    Returns:
        `dict`: `video_features` float32 `(B, T, D)`, zeros where `frame_mask` bool `(B, T)` is `False` (moments before
        the video or its window begins); `labels`, `verb_labels`, `noun_labels` int64 `(B,)` and `past_labels` int64
        `(B, T)`, -100 where unlabeled; if given also `frame_labels` int64 `(B, T)`, -100 in padding; if
        rows carry the next Z actions `future_labels` int64 `(B, Z)`; `uid`, a list of the rows' names.
    """

    def __init__(self, store: Any, *, by_number: bool = False, frame_labels: Mapping[str, np.ndarray] | None = None):
        self.store, self.by_number, self.frame_labels = store, by_number, frame_labels

    def __call__(self, rows: Sequence[dict]) -> dict:
        labels = _labels(rows, self.frame_labels)
        masks = labels["frame_mask"].numpy()  # (B, T)
        features = np.zeros((*masks.shape, self.store.feature_dim), dtype=np.float32)  # (B, T, D)
        for index, (row, mask) in enumerate(zip(rows, masks, strict=True)):
            times = np.asarray(row["frame_times"], dtype=float)
            if self.by_number:
                times = (np.asarray(row["frame_indices"]) - 1) / REFERENCE_FEATURE_FPS
            features[index, mask] = self.store.read(row["video_id"], times[mask])
        return {"video_features": torch.from_numpy(features), **labels}


class VideoCollator:
    """Collates rows to a batch of their decoded and preprocessed observed frames, and labels.

    Args:
        processor (`AVTVideoProcessor`): Resizes, crops and normalizes frames.
        training (`bool`, *optional*, defaults to `False`): Whether to draw the short side, crop and mirroring at
            random, from torch's global generator, which this package's trainers seed for each batch, and other loaders
            once per worker.
        num_crops, flip_views (*optional*): Views to average over in evaluation: see `AVTVideoProcessor.preprocess`.
        frame_labels (`Mapping[str, np.ndarray]`, *optional*): See `FeatureCollator`.

    Returns:
        `dict`: `pixel_values_videos` float32 `(B, T, 3, H, W)`, or `(B, V, T, 3, H, W)` of V views, black frames where
        `frame_mask` is `False`; F frames instead of T for video models, see `AVTVideoProcessor.read`; and the labels of
        `FeatureCollator`.

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
        frame_labels: Mapping[str, np.ndarray] | None = None,
    ):
        self.processor, self.training, self.frame_labels = processor, training, frame_labels
        self.views = {"num_crops": num_crops, "flip_views": flip_views}

    def __call__(self, rows: Sequence[dict]) -> dict:
        labels = _labels(rows, self.frame_labels)
        masks = labels["frame_mask"].numpy()  # (B, T)
        windows = [self._read(row, mask) for row, mask in zip(rows, masks, strict=True)]
        batch = self.processor(windows, training=self.training, **self.views)
        return {"pixel_values_videos": batch["pixel_values_videos"], **labels}

    def _read(self, row: dict, mask: np.ndarray) -> np.ndarray:
        """Returns the frames of a row's window, uint8 `(F, H, W, 3)`."""
        if row["video"] is None:
            raise ValueError(f"Row '{row['uid']}' has no video: set the data set's option videos to their folder.")
        return self.processor.read_window(row["video"], np.asarray(row["frame_times"]), mask)


def _labels(rows: Sequence[dict], of_frames: Mapping[str, np.ndarray] | None) -> dict:
    """Returns all entries of a batch except for its frames or features: see `FeatureCollator`."""
    columns = {"labels": "action", "verb_labels": "verb", "noun_labels": "noun", "past_labels": "past_actions"}
    labels = {
        name: torch.tensor(np.array([row[column] for row in rows], dtype=np.int64)) for name, column in columns.items()
    }
    if rows and "future_actions" in rows[0]:
        labels["future_labels"] = torch.tensor(np.array([row["future_actions"] for row in rows], dtype=np.int64))
    frame_mask = torch.tensor(np.array([row["frame_mask"] for row in rows], dtype=bool))  # (B, T)
    if of_frames is not None:
        frame_labels = torch.tensor(np.array([of_frames[row["uid"]] for row in rows], dtype=np.int64))
        labels["frame_labels"] = torch.where(frame_mask, frame_labels, UNLABELLED)
    return {"frame_mask": frame_mask, **labels, "uid": [row["uid"] for row in rows]}
