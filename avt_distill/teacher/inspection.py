"""Inspecting a teacher's predictions for a video, and checking that it read the rows' histories."""

import numpy as np
import pandas as pd

from ..data.builder import AnticipationBuilder
from ..data.labels import UNLABELLED
from ..metrics import label_ranks, softmax
from .soft_labels import SoftLabelTable, rows_fingerprint

TOP_K = 5


def rows_of_split(builder: AnticipationBuilder, split: str) -> pd.DataFrame:
    if split not in builder.annotations.splits:
        raise ValueError(f"There is no split '{split}': give one of {list(builder.annotations.splits)}.")
    return builder.rows(split)


def rows_of_video(rows: pd.DataFrame, video_id: str) -> pd.DataFrame:
    """Returns the rows of a video in order of the start of their actions."""
    videos = sorted(set(rows["video_id"]))
    if video_id not in videos:
        raise ValueError(
            f"The split has no row of a video '{video_id}': give one of its {len(videos)}, such as {videos[:5]}."
        )
    return rows[rows["video_id"] == video_id].sort_values("start_s", kind="stable").reset_index(drop=True)


def check_histories(table: SoftLabelTable, rows: pd.DataFrame, builder: AnticipationBuilder) -> str:
    """Checks that a table's teacher read the histories of the rows; returns why that cannot be checked, or an empty
    text.

    Raises:
        ValueError: If the history rule differs, or the rows have other actions or histories.
    """
    harm = "otherwise the histories shown are not those that the teacher read"
    ours = {"history_cutoff": builder.config.history_cutoff, "tau_a": str(float(builder.config.tau_a))}
    for name, value in ours.items():
        if table.metadata[name] != value:
            theirs = table.metadata[name]
            raise ValueError(f"The soft labels have {name} {theirs}, the rows {value}: give --{name} {theirs}; {harm}.")
    labelled = table.metadata.get("labelled")
    if not labelled or set(table.uids) != set(rows["uid"]):
        return "cover other rows than the split" if labelled else "do not record which rows they belong to"
    if labelled != rows_fingerprint(rows):
        raise ValueError(
            f"The soft labels are of rows {labelled}, not of {rows_fingerprint(rows)}, which have other actions or "
            f"histories: give the annotations, --config_name and options that the teacher had; {harm}."
        )
    return ""


def judged(rows: pd.DataFrame, table: SoftLabelTable, temperature: float) -> pd.DataFrame:
    """Returns the rows with `best`, `probabilities` (arrays of `TOP_K`) and `rank` (from 0; -1: unlabeled)."""
    logits, _ = table.select(rows["uid"])
    probabilities = softmax(logits / np.float64(temperature))
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
    labels = rows["action"].to_numpy()
    known = labels != UNLABELLED
    ranks = np.full(len(rows), -1)
    ranks[known] = label_ranks(logits[known], labels[known]) if known.any() else ()
    return rows.assign(best=list(best), probabilities=list(np.take_along_axis(probabilities, best, 1)), rank=ranks)


def verdict(rank: int) -> str:
    return "unlabelled" if rank < 0 else "top 1" if rank == 0 else f"top {TOP_K}" if rank < TOP_K else "miss"


def summary(rows: pd.DataFrame, video_id: str) -> str:
    ranks = rows["rank"][rows["rank"] >= 0]
    counts = f"{video_id}: {len(rows)} rows"
    if len(ranks) < len(rows):
        counts += f", {len(rows) - len(ranks)} unlabelled"
    if ranks.empty:
        return counts
    return f"{counts}, top-1 {100 * (ranks < 1).mean():.1f} %, top-{TOP_K} {100 * (ranks < TOP_K).mean():.1f} %"
