"""Checks of labels, soft labels and inputs before a student is trained."""

from collections import defaultdict
from pathlib import Path

import datasets
import numpy as np

from modeling_avt.temporal_avt import REFERENCE_FEATURE_FPS
from modeling_avt.video_io_avt import picture_folder

from ..data.builder import AnticipationBuilder
from ..teacher.soft_labels import SoftLabelTable
from .arguments import RunArguments
from .building import StudentInput


def check_labels(args: RunArguments, train: datasets.Dataset, evaluation: datasets.Dataset):
    """Raises a `ValueError` if the evaluation split has no labels, or the training split neither labels nor a
    teacher."""
    if not (np.asarray(evaluation["action"]) >= 0).any():
        raise ValueError(
            f"evaluation_split is '{args.evaluation_split}', but none of its {len(evaluation)} rows has a label to "
            "measure on: give a split with labels."
        )
    if not args.distill_weight and not (np.asarray(train["action"]) >= 0).any():
        raise ValueError(
            f"train_split is '{args.train_split}', but none of its {len(train)} rows has a label to learn: give a "
            "split with labels."
        )


def check_top_k(args: RunArguments, builder: AnticipationBuilder):
    """Raises a `ValueError` if more of the teacher's classes are to be compared than there are actions."""
    num_actions = len(builder.annotations.label_space.actions)
    if args.distill_weight and args.distill_top_k is not None and args.distill_top_k > num_actions:
        raise ValueError(
            f"distill_top_k is {args.distill_top_k}, but the data set has {num_actions} actions: give at most as many, "
            "or leave it out to compare all."
        )


def check_soft_labels(
    table: SoftLabelTable, path: str, args: RunArguments, builder: AnticipationBuilder, train: datasets.Dataset
):
    """Raises a `ValueError` unless soft labels match the training rows and, unless accepted, their history rule.

    Args:
        table (`SoftLabelTable`): A teacher's soft labels.
        path (`str`): Their file, for messages.
        args (`RunArguments`): The options; `accept_other_history` permits another `history_cutoff` and `tau_a`.
        builder (`AnticipationBuilder`): The data set.
        train (`datasets.Dataset`): Its training rows.
    """
    own = {name: str(getattr(builder.config, name)) for name in ("history_cutoff", "tau_a")}
    own["tau_a"] = str(float(own["tau_a"]))
    different = [
        f"{name} {table.metadata[name]}, not {value}" for name, value in own.items() if table.metadata[name] != value
    ]
    if different and not args.accept_other_history:
        raise ValueError(
            f"The soft labels {path} have {' and '.join(different)} as the data set: export them with the data set's, "
            "or give --accept_other_history true if the difference is intended, as in the paper."
        )
    columns = {name: train[name][:] for name in ("uid", "video_id", "start_s", "action")}
    table.check_shares_rows(columns["uid"], path)
    table.check_rows(columns, path)


def check_what_is_seen(student_input: StudentInput, train: datasets.Dataset, evaluation: datasets.Dataset):
    """Reads every observed feature once, or checks that every video exists, so that errors are raised before training.

    Raises:
        ValueError: If a video is missing, or features are missing or not finite.
    """
    if student_input.store is None:
        for video_id, path in {**_videos(train), **_videos(evaluation)}.items():
            if path is None or not (Path(path).is_file() or picture_folder(path)):
                raise ValueError(f"The video of '{video_id}' is missing ({path}): add it, or leave its rows out.")
        return
    times_of = defaultdict(set)
    for rows in (train, evaluation):
        times = np.asarray(rows["frame_times"][:], dtype=float)  # (N, T)
        if student_input.by_number:
            times = (np.asarray(rows["frame_indices"][:]) - 1) / REFERENCE_FEATURE_FPS
        for video_id, of_row, mask in zip(rows["video_id"], times, np.asarray(rows["frame_mask"][:]), strict=True):
            times_of[video_id].update(of_row[mask].tolist())
    counts = student_input.store.num_searched_back, student_input.store.num_zeros
    for video_id, times in times_of.items():
        if times:
            student_input.store.read(video_id, sorted(times))
    student_input.store.num_searched_back, student_input.store.num_zeros = counts


def _videos(rows: datasets.Dataset) -> dict[str, str | None]:
    return dict(zip(rows["video_id"], rows["video"], strict=True))
