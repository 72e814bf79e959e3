"""A text teacher's soft labels, stored as Parquet with metadata that identify teacher, labels and rows."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax, logsumexp

from ..data.history import CUTOFFS
from ..data.labels import LabelSpace
from ..evaluation.uid_tables import (
    LABEL_SPACE_HASH,
    check_label_space,
    check_vectors,
    note_on_uids,
    read_table,
    write_table,
)

COLUMNS = ("uid", "logits")
# Columns that identify a row, to detect different data with the same uids.
ROW_COLUMNS = ("video_id", "start_s", "action")
SAME_START_S = 1e-6
REQUIRED_METADATA = (LABEL_SPACE_HASH, "model", "history_cutoff", "tau_a")
# Metadata that the tables of an ensemble must share: the same rows with the same histories.
SHARED_METADATA = (LABEL_SPACE_HASH, "history_cutoff", "tau_a", "labelled", "split")
VIDEOS = "videos"
AVERAGES = ("probabilities", "logits")
ROWS_AT_ONCE = 1024


@dataclass(eq=False)
class SoftLabelTable:
    """A teacher's logits of the A actions for N rows, at temperature 1, each with its uid.

    Args:
        uids (`list[str]`): Name of each row, all different.
        logits (`np.ndarray` of shape `(N, A)`): The teacher's logits, before any temperature; kept as float32.
        metadata (`dict[str, str]`): The origin of the logits, stored as text. Other keys are kept.

            - `label_space_hash` (required): the `content_hash` of the `LabelSpace` of the columns.
            - `model` (required): name of the teacher; for an ensemble its members' names, separated by commas.
            - `history_cutoff` (required): which past actions the teacher read, see `data.history.action_histories`.
            - `tau_a` (required): seconds between the end of the history and the action, without which a cutoff is
              meaningless.
            - `language_model`: of a log-linear model, the language model whose vectors of names it uses.
            - `history_length`: maximum number of past actions that the teacher read.
            - `text_form`: their text form, see `teacher.action_text`.
            - `cross_fit`: number of folds K, where each row's teacher has not seen the row's fold; `"0"`: one teacher.
            - `trained_on`: `rows_fingerprint` of the teacher's training rows; empty for a zero-shot teacher.
            - `videos`: JSON list of the videos that the teacher learned from, or was stopped by; absent if unknown.
            - `labelled`: `rows_fingerprint` of the labeled rows.
            - `split`: name of the split of these rows.
            - `inputs`: digest of the options, teachers and rows that decide the labels; `export_soft_labels` replaces a
              table only if it is equal.
            - `average`: for an ensemble, what was averaged: `"probabilities"` or `"logits"`.
            - `balance`: the power of the actions' frequencies that probabilities were divided by; see `balanced`.

        rows (`dict`, *optional*): `video_id` (text), `start_s` and `action` (numbers) of each row, N each. Tables of
            earlier versions lack them, and are joined by uid only.

    Raises:
        ValueError: If a uid is repeated, a logit is not finite, shapes do not match, there are no rows, or the metadata
            lack a required key or hold an invalid cutoff or `tau_a`.
    """

    uids: list[str]
    logits: np.ndarray
    metadata: dict[str, str]
    rows: Mapping[str, Any] | None = None

    def __post_init__(self):
        harm = "the distillation loss would be NaN"
        self.uids, self.logits = check_vectors("logits", self.uids, self.logits, harm=harm)
        self.metadata = {str(key): str(value) for key, value in self.metadata.items()}
        missing = [key for key in REQUIRED_METADATA if not self.metadata.get(key)]
        if missing:
            raise ValueError(
                f"metadata lacks {missing}: give all of {list(REQUIRED_METADATA)}; otherwise soft labels of other "
                "actions, or of a teacher that knew the future, would be accepted."
            )
        if self.metadata["history_cutoff"] not in CUTOFFS:
            raise ValueError(
                f"metadata has history_cutoff '{self.metadata['history_cutoff']}': give one of {list(CUTOFFS)}."
            )
        self.metadata["tau_a"] = _seconds(self.metadata["tau_a"])
        if self.rows is not None:
            self.rows = _row_columns(self.rows, len(self.uids))

    @property
    def videos_of_teacher(self) -> set[str]:
        """The names of the videos that the teacher is known to have learned from."""
        return set(json.loads(self.metadata.get(VIDEOS, "[]")))

    def check_label_space(self, label_space: LabelSpace):
        """Raises a `ValueError` unless the columns are those of this label space."""
        check_label_space("soft labels", self.logits.shape[1], self.metadata, label_space)

    def select(self, uids: Sequence[str], *, missing: str = "raise") -> tuple[np.ndarray, np.ndarray]:
        """Returns the logits of given rows, float32 `(N, A)`, and a mask of the rows that have any, bool `(N,)`.

        Args:
            uids (sequence of `str`): The uids of the rows, in any order, repetitions allowed.
            missing (`str`, *optional*, defaults to `"raise"`): How to handle a uid that the table lacks: `"raise"`, or
                `"mask"`, which returns zeros and `False`.

        Raises:
            ValueError: If `missing` is neither, or if it is `"raise"` and the table lacks a uid.
        """
        if missing not in ("raise", "mask"):
            raise ValueError(f"missing is '{missing}': give 'raise' or 'mask'.")
        uids = [str(uid) for uid in uids]
        rows = np.array([self._row_of.get(uid, -1) for uid in uids], dtype=np.int64)
        mask = rows >= 0
        if missing == "raise" and not mask.all():
            raise ValueError(
                f"The soft labels lack {np.count_nonzero(~mask)} of {len(uids)} uids, '{uids[int(np.argmin(mask))]}' "
                "first: label these rows, or leave them out of distillation with missing='mask'; otherwise their KL "
                f"target would be uniform{note_on_uids(self.uids, uids)}."
            )
        return np.where(mask[:, None], self.logits[rows], np.float32(0)), mask

    def check_rows(self, rows: Mapping[str, Sequence], source: str = "given"):
        """Raises a `ValueError` if a row of the table and a row of the data with the same uid differ.

        Args:
            rows (`Mapping`): `uid`, `video_id`, `start_s` and `action` of the data's rows.
            source (`str`, *optional*): Origin of the table, for the message.
        """
        if self.rows is None:
            return
        own = np.array([self._row_of.get(str(uid), -1) for uid in rows["uid"]], dtype=np.int64)
        known = np.flatnonzero(own >= 0)
        given, own = _row_columns({name: rows[name] for name in ROW_COLUMNS}, len(own)), own[known]
        for name in ROW_COLUMNS:
            labelled, asked = self.rows[name][own], given[name][known]
            differ = np.abs(labelled - asked) > SAME_START_S if name == "start_s" else labelled != asked
            if differ.any():
                row = int(np.argmax(differ))
                uid = rows["uid"][int(known[row])]
                raise ValueError(
                    f"The soft labels {source} are of other rows: of {int(differ.sum())} of {len(known)} the {name} "
                    f"differs, '{uid}' first, with {labelled[row]}, not {asked[row]}: export them "
                    "from this data set."
                )

    def check_shares_rows(self, uids: Sequence[str], source: str = "given"):
        """Raises a `ValueError` if the table and the data have no uid in common."""
        if not any(str(uid) in self._row_of for uid in uids):
            raise ValueError(
                f"The soft labels {source} have none of the {len(uids)} uids of the rows, but such as "
                f"'{self.uids[0]}': export them from this data set{note_on_uids(self.uids, map(str, uids))}."
            )

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {uid: row for row, uid in enumerate(self.uids)}

    def save(self, path: str | Path):
        """Writes the table atomically as Parquet: `uid`, `logits`, the columns of `rows`, and the metadata."""
        rows = {} if self.rows is None else {**self.rows, "video_id": self.rows["video_id"].tolist()}
        write_table(path, {"uid": self.uids, **rows, "logits": self.logits}, self.metadata)

    @classmethod
    def load(cls, path: str | Path, *, label_space: LabelSpace | None = None) -> "SoftLabelTable":
        """Reads a table written by `save`.

        Args:
            path (`str` or `Path`): The Parquet file.
            label_space (`LabelSpace`, *optional*): The label space that the columns must have.

        Raises:
            ValueError: If the file is not a soft-label table, or belongs to another label space.
        """
        columns, metadata = read_table(path, "soft-label table", COLUMNS, optional=ROW_COLUMNS)
        rows = {name: columns[name] for name in ROW_COLUMNS if name in columns}
        loaded = cls(columns["uid"], columns["logits"], metadata, rows or None)
        if label_space is not None:
            loaded.check_label_space(label_space)
        return loaded

    @classmethod
    def average(cls, tables: Sequence["SoftLabelTable"], *, of: str = "probabilities") -> "SoftLabelTable":
        """Averages the tables of several teachers; rows are in the order of the first table.

        Args:
            tables (sequence of `SoftLabelTable`): At least one, all of the same rows, label space and history rule.
            of (`str`, *optional*, defaults to `"probabilities"`): What to average: `"probabilities"` at temperature 1,
                whose logarithms are the result, or `"logits"`.

        Raises:
            ValueError: If there are no tables, they do not belong together, or `of` is neither.
        """
        if of not in AVERAGES:
            raise ValueError(f"of is '{of}': give one of {list(AVERAGES)}.")
        if not tables:
            raise ValueError("tables is empty: give at least one soft-label table.")
        first = tables[0]
        for table in tables[1:]:
            _check_same_rows(first, table)
        known = next((table for table in tables if table.rows is not None), first)
        rows_of = [[table._row_of[uid] for uid in first.uids] for table in tables]
        logits = np.empty_like(first.logits)
        # In chunks: 60,000 rows of 4,000 actions would be 2 GB per table in float64.
        for start in range(0, len(logits), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            members = np.stack([t.logits[rows[part]] for t, rows in zip(tables, rows_of, strict=True)], dtype=float)
            if of == "logits":
                logits[part] = members.mean(axis=0)
            else:  # the logarithm of the mean of softmaxes, computed in log space to avoid underflow
                logits[part] = logsumexp(log_softmax(members, axis=-1), axis=0) - np.log(len(tables))
        rows = None
        if known.rows is not None:
            order = [known._row_of[uid] for uid in first.uids]
            rows = {name: known.rows[name][order] for name in ROW_COLUMNS}
        return cls(first.uids, logits, {**_joined_metadata(tables), "average": of}, rows)

    def balanced(self, labels: Sequence[int], power: float = 1.0) -> "SoftLabelTable":
        """Returns the table with probabilities divided by a power of the actions' frequencies, so that rare actions
        are not taught less than frequent ones.

        With a power of 1 this is the logit adjustment of Menon et al., 2021, applied to a teacher.

        Args:
            labels (sequence of `int`, `(M,)`): Action ids of the training rows, whose frequencies are counted, each
                action once more than it occurs; negative ids are ignored.
            power (`float`, *optional*, defaults to 1.0): 0 or more. 0 changes nothing but normalizes the logits.

        Raises:
            ValueError: If an id is not that of a column, or `power` is negative.
        """
        if not 0 <= power < math.inf:
            raise ValueError(f"power is {power}: give a finite number, 0 or more.")
        known, num_actions = np.asarray([label for label in labels if label >= 0], dtype=np.int64), self.logits.shape[1]
        if len(known) and known.max() >= num_actions:
            raise ValueError(f"labels has the action id {known.max()}: the table has {num_actions} actions.")
        counts = np.bincount(known, minlength=num_actions) + 1.0
        log_frequencies, logits = np.log(counts / counts.sum()), np.empty_like(self.logits)
        for start in range(0, len(logits), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            logits[part] = log_softmax(self.logits[part].astype(float), axis=-1) - power * log_frequencies
        return SoftLabelTable(self.uids, logits, {**self.metadata, "balance": str(float(power))}, self.rows)


def rows_fingerprint(rows: pd.DataFrame) -> str:
    """Returns a short digest of rows, equal for equal uids, actions and histories in any order.

    Args:
        rows (`pd.DataFrame`): `uid`, `action` (int) and `history` (action ids) of N rows.

    Raises:
        ValueError: If there are no rows, a column is missing, or a uid is repeated.
    """
    if missing := [name for name in ("uid", "action", "history") if name not in rows]:
        raise ValueError(f"rows has columns {list(rows)} and lacks {missing}: give anticipation rows.")
    uids = [str(uid) for uid in rows["uid"]]
    if len(set(uids)) < max(len(uids), 1):
        raise ValueError(f"rows has {len(uids)} rows with {len(set(uids))} uids: give at least one, all different.")
    digest = hashlib.sha256()
    actions, histories = rows["action"].tolist(), rows["history"].tolist()
    for row in sorted(range(len(uids)), key=uids.__getitem__):
        uid = uids[row].encode()
        # Lengths first, so that different tables never hash the same bytes.
        digest.update(np.array([len(uid), actions[row], len(histories[row])], dtype="<i8").tobytes() + uid)
        digest.update(np.asarray(histories[row], dtype="<i8").tobytes())
    return digest.hexdigest()[:16]


def _row_columns(rows: Mapping[str, Any], num_rows: int) -> dict[str, np.ndarray]:
    """Returns `ROW_COLUMNS` as arrays: text, seconds and action ids."""
    columns = {
        "video_id": np.array([str(video) for video in rows["video_id"]], dtype=object),
        "start_s": np.asarray(rows["start_s"], dtype=np.float64),
        "action": np.asarray(rows["action"], dtype=np.int64),
    }
    if wrong := [name for name, values in columns.items() if values.shape != (num_rows,)]:
        raise ValueError(
            f"rows has {wrong[0]} of shape {columns[wrong[0]].shape}: give one for each of {num_rows} uids."
        )
    return columns


def _seconds(tau_a: str) -> str:
    """Returns the canonical text of a number of seconds."""
    try:
        number = float(tau_a)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"metadata has tau_a '{tau_a}': give a number of seconds.")
    return str(number)


def _check_same_rows(first: SoftLabelTable, other: SoftLabelTable):
    """Raises a `ValueError` unless two tables share rows, label space and history rule."""
    for key in SHARED_METADATA:
        values = [table.metadata.get(key) for table in (first, other)]
        if values[0] != values[1]:
            raise ValueError(
                f"The soft labels of '{first.metadata['model']}' and '{other.metadata['model']}' differ in {key}, "
                f"{values[0]} and {values[1]}: give tables that agree in {list(SHARED_METADATA)}."
            )
    if first.logits.shape[1] != other.logits.shape[1]:
        raise ValueError(
            f"The soft labels are of {first.logits.shape[1]} and of {other.logits.shape[1]} actions: give tables of "
            "one label space."
        )
    if different := sorted(set(first.uids) ^ set(other.uids)):
        raise ValueError(
            f"The soft labels differ in {len(different)} uids, such as '{different[0]}': give tables of the same rows"
            f"{note_on_uids(first.uids, other.uids)}."
        )
    if other.rows is not None:
        first.check_rows({"uid": other.uids, **other.rows}, f"of '{first.metadata['model']}'")


def _joined_metadata(tables: Sequence[SoftLabelTable]) -> dict[str, str]:
    """Returns the common metadata of tables; differing values are joined by commas."""
    joined = {}
    for key in dict.fromkeys(key for table in tables for key in table.metadata):
        values = [table.metadata.get(key, "unknown") for table in tables]
        # Names of models are repeated, since seeds of one model share its name.
        joined[key] = ", ".join(values if key == "model" else dict.fromkeys(values))
    if VIDEOS in joined:
        joined[VIDEOS] = json.dumps(sorted(set().union(*(table.videos_of_teacher for table in tables))))
    return joined
