"""From rows of a data set to a batch of frame features and labels."""

from collections.abc import Sequence

import numpy as np
import torch

from .feature_stores import FeatureStore


class FeatureCollator:
    """Reads the observed frames' features of rows, and stacks them with the rows' labels.

    Args:
        store (`FeatureStore`): Where features are; copied into the worker processes of a `DataLoader`.

    Returns:
        `dict`: `video_features` float32 `(B, T, D)`, zeros where `frame_mask` bool `(B, T)` is `False` (moments before
        the video or its window begins); `labels`, `verb_labels`, `noun_labels` int64 `(B,)` and `past_labels` int64
        `(B, T)`, -100 where unlabelled; `uid`, a list of the rows' names.
    """

    def __init__(self, store: FeatureStore):
        self.store = store

    def __call__(self, rows: Sequence[dict]) -> dict:
        masks = np.array([row["frame_mask"] for row in rows], dtype=bool)  # (B, T)
        features = np.zeros((*masks.shape, self.store.feature_dim), dtype=np.float32)  # (B, T, D)
        for index, (row, mask) in enumerate(zip(rows, masks, strict=True)):
            features[index, mask] = self.store.read(row["video_id"], np.asarray(row["frame_times"])[mask])
        return {
            "video_features": torch.from_numpy(features),
            "frame_mask": torch.from_numpy(masks),
            "labels": _labels(rows, "action"),
            "verb_labels": _labels(rows, "verb"),
            "noun_labels": _labels(rows, "noun"),
            "past_labels": _labels(rows, "past_actions"),
            "uid": [row["uid"] for row in rows],
        }


def _labels(rows: Sequence[dict], column: str) -> torch.Tensor:
    return torch.tensor(np.array([row[column] for row in rows], dtype=np.int64))
