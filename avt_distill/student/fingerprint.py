"""Fingerprints of everything that determines a run's students and their evaluation, compared when a run resumes."""

from dataclasses import fields
from pathlib import Path

import datasets

from modeling_avt.temporal_avt import TIME_CONTRACT
from modeling_avt.video_io_avt import picture_folder

from ..data.arguments import DatasetArguments
from ..data.builder import AnticipationBuilder
from ..runs.fingerprints import (
    checkpoint_digest,
    columns_digest,
    decisive_options,
    files_digest,
    logits_digest,
)
from ..teacher.soft_labels import SoftLabelTable
from .arguments import RunArguments, StudentArguments
from .building import StudentInput

# Columns of rows that are not compared: paths, whose content is compared instead, and narrations, which are not used.
NOT_COMPARED = ("video", "narration")
# `RunArguments` that only locate data or select students; the content of the data is compared instead.
ELSEWHERE = ("soft_labels", "missing_soft_labels", "seeds", "baseline", "train_split", "accept_other_history")


def data_fingerprint(
    builder: AnticipationBuilder,
    train: datasets.Dataset,
    evaluation: datasets.Dataset,
    student_input: StudentInput,
    soft_labels: SoftLabelTable | None,
) -> dict:
    """Returns digests of a run's data: rows of both splits by column, soft labels, and features or videos.

    Args:
        builder (`AnticipationBuilder`): The data set.
        train, evaluation (`datasets.Dataset`): The rows of both splits.
        student_input (`StudentInput`): What students read.
        soft_labels (`SoftLabelTable`, *optional*): The teacher.
    """
    config = builder.config
    rows = {"training_rows": train, "evaluation_rows": evaluation}
    return {
        "label_space_hash": builder.annotations.label_space.content_hash,
        **{name: getattr(config, name) for name in (*TIME_CONTRACT, "protocol", "source", "history_cutoff")},
        **{name: columns_digest(_compared(of_split)) for name, of_split in rows.items()},
        "soft_labels": None if soft_labels is None else logits_digest(soft_labels.uids, soft_labels.logits),
        "features_content" if student_input.store is not None else "videos_content": _input_digest(
            student_input, [train, evaluation]
        ),
    }


def _compared(rows: datasets.Dataset) -> dict:
    plain = rows.with_format(None)
    return {name: plain[name][:] for name in rows.column_names if name not in NOT_COMPARED}  # one by one is slow


def _input_digest(student_input: StudentInput, splits: list[datasets.Dataset]) -> dict[str, str]:
    """Returns the digests of the input, features or videos, by video."""
    videos = {video: path for rows in splits for video, path in zip(rows["video_id"], rows["video"], strict=True)}
    if student_input.store is not None:
        return student_input.store.content_digest(videos)
    files, of_pictures = {}, {}
    for video, path in videos.items():
        if (folder := picture_folder(path)) is not None:
            of_pictures[video] = files_digest({Path(file).name: file for file in folder.files()}).items()
        elif path is not None:
            files[video] = path
    return files_digest(files) | columns_digest(of_pictures)


def student_settings(args: RunArguments, fingerprint: dict) -> dict:
    """Returns everything that determines a student: options, and the run's `data_fingerprint`."""
    elsewhere = {*ELSEWHERE, *(option.name for option in fields(DatasetArguments))}
    # Kept by name for cards.
    settings = {option.name: getattr(args, option.name) for option in fields(StudentArguments)}
    settings |= decisive_options(args, leave_out=_of_readers(args) | elsewhere)
    settings["batch_size"] = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    for name in ("model_name_or_path", "backbone"):
        settings[f"{name}_content"] = checkpoint_digest(getattr(args, name))
    return {**settings, **fingerprint}


def _of_readers(args: RunArguments) -> set[str]:
    """Returns the names of options that a subclass adds for later stages, which do not affect the students."""
    return {option.name for option in fields(args)} - {option.name for option in fields(RunArguments)}
