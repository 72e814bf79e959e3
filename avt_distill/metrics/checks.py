"""Checks of the inputs of metrics: shapes, finite scores, labels in range."""

from collections.abc import Collection, Sequence

import numpy as np

from ..data.labels import UNLABELLED


def check_ids(name: str, ids: Collection[int], num_classes: int) -> np.ndarray:
    """Returns class ids as int64, ascending; raises `ValueError` if an id is out of range."""
    ids = np.asarray(sorted(ids), dtype=np.int64)
    if len(ids) and not (ids[0] >= 0 and ids[-1] < num_classes):
        raise ValueError(f"{name} has ids from {ids[0]} to {ids[-1]}: give class ids from 0 to {num_classes - 1}.")
    return ids


def check_matrix(name: str, scores: np.ndarray, num_classes: int | None = None) -> np.ndarray:
    """Returns scores `(N, A)`; raises `ValueError` for another shape, no rows, or scores that are not finite."""
    scores = np.asarray(scores)
    if scores.ndim != 2 or 0 in scores.shape or (num_classes is not None and scores.shape[1] != num_classes):
        expected = "number of classes" if num_classes is None else num_classes
        raise ValueError(f"{name} has shape {scores.shape}: give (N, {expected}), N at least 1.")
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise ValueError(f"{name} is not finite in row {row}: a NaN has no rank, so give finite scores.")
    return scores


def check_scores(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores `(N, A)` and labels, int64 `(N,)`; raises `ValueError` if they do not match."""
    scores = check_matrix("scores", scores)
    labels = check_labels("labels", labels, scores.shape[1])
    if len(labels) != len(scores):
        raise ValueError(f"labels has {len(labels)} entries for {len(scores)} rows of scores: give one a row.")
    return scores, labels


def check_labels(name: str, labels: np.ndarray | Sequence[int], num_classes: int) -> np.ndarray:
    """Returns labels as int64 `(N,)`; raises `ValueError` for unknown labels and those out of range."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iu"):
        raise ValueError(f"{name} has shape {labels.shape} and type {labels.dtype}: give integers of shape (N,).")
    labels = labels.astype(np.int64)
    unknown = int(np.count_nonzero(labels == UNLABELLED))
    if unknown:
        raise ValueError(f"{name} has {unknown} rows of {UNLABELLED}, an unknown label: leave these rows out.")
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(f"{name} has {outside[0]}: give class ids from 0 to {num_classes - 1}.")
    return labels
