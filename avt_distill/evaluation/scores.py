"""Scores of a model on a split, stored as Parquet: the input of evaluation, fusion and comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.labels import UNLABELLED, LabelSpace
from ..data.performances import performance_of
from .uid_tables import LABEL_SPACE_HASH, check_label_space, check_vectors, note_on_uids, read_table, write_table

COLUMNS = ("uid", "label", "scores")
WEIGHTS = "weights"  # metadata key: the `weights_digest` of the checkpoint that computed the scores
VIDEO = "video_id"  # optional column


@dataclass(eq=False, init=False)
class ScoreTable:
    """Scores of the A actions for N rows, each with its uid and label.

    Args:
        uids (`list[str]`): Name of each row, all different.
        scores (`np.ndarray` of shape `(N, A)`): Logits; kept as float32.
        labels (`np.ndarray` of shape `(N,)`, *optional*): Action ids, `-100` where unknown. Default: all unknown.
        metadata (`dict[str, str]`, *optional*): The origin of the scores, such as model, split and seed.
            `label_space_hash` is the `content_hash` of the `LabelSpace`; without it, a table can be read but not
            checked against labels.
        video_ids (`Sequence[str]`, *optional*): The video of each row, for statistics over whole videos.

    Raises:
        ValueError: If a uid is repeated, a score is not finite, shapes do not match, or a label is out of range.
    """

    uids: list[str]
    scores: np.ndarray
    labels: np.ndarray
    metadata: dict[str, str]
    video_ids: list[str] | None

    def __init__(
        self,
        uids: Sequence[str],
        scores: np.ndarray,
        labels: np.ndarray | None = None,
        metadata: Mapping[str, str] | None = None,
        video_ids: Sequence[str] | None = None,
    ):
        self.uids, self.scores = check_vectors("scores", uids, scores, harm="a NaN has no rank")
        labels = np.full(len(self.uids), UNLABELLED) if labels is None else np.asarray(labels)
        self.metadata = {str(key): str(value) for key, value in (metadata or {}).items()}
        self._check_labels(labels)
        self.labels = labels.astype(np.int64)
        self.video_ids = None if video_ids is None else [str(video_id) for video_id in video_ids]
        if self.video_ids is not None and len(self.video_ids) != len(self.uids):
            raise ValueError(
                f"video_ids has {len(self.video_ids)} entries for {len(self.uids)} uids: give one per uid."
            )

    def _check_labels(self, labels: np.ndarray):
        if labels.shape != (len(self.uids),) or labels.dtype.kind not in "iu":
            raise ValueError(f"labels has shape {labels.shape} and type {labels.dtype}: give one integer per uid.")
        num_actions = self.scores.shape[1]
        outside = labels[(labels != UNLABELLED) & ((labels < 0) | (labels >= num_actions))]
        if len(outside):
            raise ValueError(
                f"labels has {outside[0]}: give action ids from 0 to {num_actions - 1}, or {UNLABELLED} for unknown."
            )

    def check_label_space(self, label_space: LabelSpace):
        """Raises a `ValueError` unless the scores are recorded to be of this label space."""
        check_label_space("scores", self.scores.shape[1], self.metadata, label_space)

    def aligned_to(self, other: "ScoreTable") -> "ScoreTable":
        """Returns the same scores in the order of another table's uids.

        Args:
            other (`ScoreTable`): The other table.

        Raises:
            ValueError: If the tables differ in uids, labels, label space or number of actions.
        """
        spaces = [(table.metadata.get(LABEL_SPACE_HASH), table.scores.shape[1]) for table in (self, other)]
        if spaces[0] != spaces[1]:
            raise ValueError(
                f"The score tables are of label spaces {spaces[0][0]} with {spaces[0][1]} actions and {spaces[1][0]} "
                f"with {spaces[1][1]}: give tables of one label space."
            )
        if different := sorted(set(self.uids) ^ set(other.uids)):
            raise ValueError(
                f"The score tables differ in {len(different)} uids, such as '{different[0]}': give tables of the same "
                f"rows{note_on_uids(self.uids, other.uids)}."
            )
        row_of = {uid: row for row, uid in enumerate(self.uids)}
        rows = [row_of[uid] for uid in other.uids]
        if (unequal := self.labels[rows] != other.labels).any():
            uid = other.uids[int(np.argmax(unequal))]
            raise ValueError(f"The score tables label '{uid}' differently: give tables of the same annotations.")
        video_ids = None if self.video_ids is None else [self.video_ids[row] for row in rows]
        return ScoreTable(other.uids, self.scores[rows], self.labels[rows], self.metadata, video_ids)

    def performances(self) -> list[str]:
        """Returns the performance of each row, for statistics over videos: all cameras of one performance count as one
        video.

        Raises:
            ValueError: If the table has no videos.
        """
        if self.video_ids is None:
            raise ValueError(
                "The score table has no column video_id, so rows cannot be grouped by video: write it again with "
                "this version of avt-distill, or add the column."
            )
        return [performance_of(video_id) for video_id in self.video_ids]

    def save(self, path: str | Path):
        """Writes the table atomically as Parquet: columns `uid`, `label`, `scores`, optionally `video_id`, and
        metadata."""
        of_videos = {} if self.video_ids is None else {VIDEO: self.video_ids}
        columns = {"uid": self.uids, "label": self.labels, **of_videos, "scores": self.scores}
        write_table(path, columns, self.metadata)

    @classmethod
    def load(cls, path: str | Path, *, label_space: LabelSpace | None = None) -> "ScoreTable":
        """Reads a table written by `save`.

        Args:
            path (`str` or `Path`): The Parquet file.
            label_space (`LabelSpace`, *optional*): The label space that the scores must have.

        Raises:
            ValueError: If the file is not a score table, or belongs to another label space.
        """
        columns, metadata = read_table(path, "score table", COLUMNS, optional=(VIDEO,))
        loaded = cls(columns["uid"], columns["scores"], columns["label"], metadata, columns.get(VIDEO))
        if label_space is not None:
            loaded.check_label_space(label_space)
        return loaded
