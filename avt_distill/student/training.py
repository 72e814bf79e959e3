"""Training one student of a run, or resuming its training."""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from transformers import Trainer, set_seed

from modeling_avt.modeling_avt import AVTForAnticipation
from modeling_avt.temporal_avt import TIME_CONTRACT

from ..data.builder import AnticipationBuilder
from ..data.past_labels import shown_actions
from ..data.performances import check_unseen
from ..evaluation.benchmark_metrics import benchmark_metrics
from ..evaluation.scores import LABEL_SPACE_HASH, WEIGHTS, ScoreTable
from ..runs.fingerprints import weights_digest
from ..runs.folder import SETTINGS, is_record, keep_settings, read_record, write_json
from ..runs.outputs import check_output, holds
from ..teacher.soft_labels import VIDEOS, SoftLabelTable
from .arguments import RunArguments
from .building import StudentInput, build_student, prepare_for_features, student_input
from .checks import check_labels, check_soft_labels, check_top_k, check_what_is_seen
from .fingerprint import data_fingerprint, student_settings
from .frozen import FrozenFeatures, frozen_features
from .horizons import horizon_metrics
from .probe import Probe, fit_probe, is_affordable
from .trainer import DistillationTrainer, SoftLabelCollator

FROZEN = "frozen_features"  # subfolder of a run's folder
RESULTS = "results.json"  # written last: marks a finished student
TRAINING_VIDEOS = "training_videos"  # there: the videos it learned from, itself, through its teacher or from its start

logger = logging.getLogger(__name__)


@dataclass
class StudentData:
    """The data that all students of a run share.

    Args:
        builder (`AnticipationBuilder`): The data set.
        train, evaluation (`datasets.Dataset`): Its rows; those to measure on are labeled.
        student_input (`StudentInput`): What students read.
        soft_labels (`SoftLabelTable`, *optional*): The teacher, or the average of several.
        fingerprint (`dict`): The `data_fingerprint` of these data.
        folder (`Path`): The run's folder.
        probe (`Probe`, *optional*): For students of features: their baseline and optional initialization.
    """

    builder: AnticipationBuilder
    train: datasets.Dataset
    evaluation: datasets.Dataset
    student_input: StudentInput
    soft_labels: SoftLabelTable | None
    fingerprint: dict
    folder: Path
    probe: Probe | None = None


def student_data(args: RunArguments, builder: AnticipationBuilder) -> StudentData:
    """Loads the data of a run and checks them before training.

    Raises:
        ValueError: If soft labels belong to another label space, other rows or another history rule, or lack rows of
            the training split while `missing_soft_labels` is `"raise"`; if more of their classes are to be compared
            than there are; if a split has no labels; if a teacher or the checkpoint to start from learned from a video
            of the evaluation split; or if features or videos are missing or not finite.
    """
    check_top_k(args, builder)
    builder.download_and_prepare()
    train, evaluation = _split(builder, args.train_split), _split(builder, args.evaluation_split)
    check_labels(args, train, evaluation)
    evaluation = labelled(evaluation)
    start = args.model_name_or_path
    videos = [set(rows["video_id"][:]) for rows in (evaluation, train)]
    check_unseen(f"model_name_or_path {start}", _videos_of(start), *videos)
    soft_labels = None
    if args.soft_labels and args.distill_weight:
        tables = [SoftLabelTable.load(path, label_space=builder.annotations.label_space) for path in args.soft_labels]
        for table, path in zip(tables, args.soft_labels, strict=True):
            check_soft_labels(table, path, args, builder, train)
            check_unseen(f"The teacher of {path}", table.videos_of_teacher, *videos)
        soft_labels = SoftLabelTable.average(tables) if len(tables) > 1 else tables[0]
        soft_labels.select(train["uid"][:], missing=args.missing_soft_labels)
        if args.balance_soft_labels:
            soft_labels = soft_labels.balanced(train["action"][:], args.balance_soft_labels)
    inputs = student_input(args, builder)
    if args.process_index == 0:
        check_what_is_seen(inputs, train, evaluation)
    fingerprint = data_fingerprint(builder, train, evaluation, inputs, soft_labels)
    probe = _probe(args, builder, train, inputs)
    return StudentData(builder, train, evaluation, inputs, soft_labels, fingerprint, args.folder, probe)


def _videos_of(checkpoint: str | None) -> list[str]:
    """Returns the videos that a student is recorded to have learned from; none of a checkpoint without a record."""
    if checkpoint is None or not (Path(checkpoint) / RESULTS).is_file():
        return []
    return read_record(Path(checkpoint) / RESULTS).get(TRAINING_VIDEOS, [])


def _split(builder: AnticipationBuilder, name: str | None) -> datasets.Dataset:
    rows = builder.as_dataset(name)
    assert isinstance(rows, datasets.Dataset)
    return rows


def part_of(args: RunArguments, data: StudentData, train: np.ndarray, evaluation: np.ndarray, name: str) -> StudentData:
    """Returns the data of a run restricted to some of its training rows, and evaluated on others of them.

    Args:
        args (`RunArguments`): The run's options.
        data (`StudentData`): The run's data.
        train, evaluation (`np.ndarray` of `int`): Indices of training rows.
        name (`str`): Name of the part, different for other rows of the run, so that its students are not mistaken for
            those of another part.
    """
    rows = data.train.select(train)
    fingerprint = {**data.fingerprint, "part": name}
    held_out = labelled(data.train.select(evaluation))
    probe = _probe(args, data.builder, rows, data.student_input) if args.start_from_probe else None
    return replace(data, train=rows, evaluation=held_out, fingerprint=fingerprint, probe=probe)


def _probe(
    args: RunArguments, builder: AnticipationBuilder, train: datasets.Dataset, student_input: StudentInput
) -> Probe | None:
    """Returns the probe of training rows, if students see features; `None` also if it is not wanted or too large."""
    if student_input.store is None or args.probe is False:
        return None
    features, num_actions = student_input.last_frames(train), len(builder.annotations.label_space.actions)
    size = (len(features), features.shape[1], num_actions)
    is_wanted = args.probe or args.start_from_probe
    if not is_wanted and not is_affordable(size, args.device):
        logger.warning(
            "The logistic probe is left out: %d rows of %d features and %d actions could take hours. To fit it "
            "nevertheless, give --probe true.",
            *size,
        )
        return None
    return fit_probe(features, train, num_actions, args.device)


def check_settings(args: RunArguments, data: StudentData):
    """Raises `ValueError` if `args.output_dir` holds a student of other data or arguments; writes nothing."""
    keep_settings(args.folder / SETTINGS, student_settings(args, data.fingerprint), should_save=False, what="a student")


def trained_student(args: RunArguments, data: StudentData) -> ScoreTable:
    """Returns the scores of the student in `args.output_dir`, training it first unless it is finished.

    Args:
        args (`RunArguments`): Options of this student.
        data (`StudentData`): The data of the run.

    Raises:
        ValueError: If the folder holds a student of other data or arguments.
    """
    folder = args.folder
    scores = folder / f"scores_{args.evaluation_split}.parquet"
    if is_record(folder / RESULTS, "metrics") and scores.exists():
        keep_settings(
            folder / SETTINGS, student_settings(args, data.fingerprint), should_save=args.should_save, what="a student"
        )
        return ScoreTable.load(scores, label_space=data.builder.annotations.label_space)
    inputs = {"model_name_or_path": args.model_name_or_path, "backbone": args.backbone, "features": args.features}
    check_output("output_dir", folder, inputs, made_here=holds(SETTINGS), writes=("config.json", "model.safetensors"))
    set_seed(args.seed)
    # Before settings are written: a student that cannot be built must not claim the folder.
    trainer = _trainer(args, data)
    keep_settings(
        folder / SETTINGS, student_settings(args, data.fingerprint), should_save=args.should_save, what="a student"
    )
    started = time.perf_counter()
    trainer.resume()
    seconds = time.perf_counter() - started
    metadata = {"split": args.evaluation_split, "seed": args.seed, "distill_weight": args.distill_weight}
    metadata["train_split"] = args.train_split
    table, losses = score_table(trainer, data.evaluation, table_metadata(data.builder, **metadata))
    horizons = horizon_metrics(trainer, data.evaluation) if "future_labels" in trainer.label_names else None
    trainer.save_model(str(folder))
    if args.should_save:
        table.metadata[WEIGHTS] = weights_digest(folder)
        table.save(scores)
        metrics = benchmark_metrics(table, data.builder.annotations, verbs_and_nouns=True)
        results = {"scores": table.metadata, "metrics": metrics, "losses": losses, "horizons": horizons}
        results |= _record(args, trainer, data, seconds)
        write_json(folder / RESULTS, results)
    trainer.accelerator.wait_for_everyone()
    return table


def score_table(trainer: Trainer, rows: datasets.Dataset, metadata: dict) -> tuple[ScoreTable, dict[str, float]]:
    """Returns a model's score table of rows, equal in every process, and its losses on them.

    Args:
        trainer (`Trainer`): The trainer of the model.
        rows (`datasets.Dataset`): Labeled rows.
        metadata (`dict`): Metadata for the table.
    """
    output = trainer.predict(rows, metric_key_prefix="evaluation")
    labels = np.asarray(rows["action"])
    losses = {name: value for name, value in output.metrics.items() if name.endswith("_loss")}
    scores = np.asarray(output.predictions, dtype=np.float32)
    return ScoreTable(list(rows["uid"]), scores, labels, metadata, list(rows["video_id"])), losses


def labelled(rows: datasets.Dataset) -> datasets.Dataset:
    """Returns the rows whose next action is known."""
    return rows.select(np.flatnonzero(np.asarray(rows["action"]) >= 0))


def table_metadata(builder: AnticipationBuilder, **further) -> dict:
    """Returns the metadata of a score table of this data set, with further entries."""
    config = builder.config
    data = {"dataset": builder.TITLE, "config_name": config.name, "protocol": config.protocol}
    data |= {name: getattr(config, name) for name in TIME_CONTRACT}
    return {LABEL_SPACE_HASH: builder.annotations.label_space.content_hash, **data, **further}


def _trainer(args: RunArguments, data: StudentData) -> DistillationTrainer:
    student, student_input = build_student(args, data.builder, data.student_input), data.student_input
    if args.freeze_backbone and args.encode_once and student.avt.probe is None:
        student_input = replace(student_input, frozen=_frozen_features(args, data, student))
    if data.student_input.store is not None and args.model_name_or_path is None:
        probe = data.probe if args.start_from_probe else None
        prepare_for_features(student, data.student_input.store, data.train["video_id"], probe)
    train_labels = evaluation_labels = None
    if student.config.recognizes_frames:
        train_labels = _frame_labels(data.builder, data.train, args.train_split)
        evaluation_labels = _frame_labels(data.builder, data.evaluation, args.evaluation_split)
    collator = student_input.collator(training=True, frame_labels=train_labels)
    if data.soft_labels is not None and args.distill_weight:
        collator = SoftLabelCollator(collator, data.soft_labels, missing=args.missing_soft_labels)
    return DistillationTrainer(
        student,
        args,
        data_collator=collator,
        eval_collator=student_input.collator(training=False, frame_labels=evaluation_labels),
        train_dataset=data.train,
        eval_dataset=data.evaluation,
        processing_class=data.student_input.processor,
    )


def _frame_labels(builder: AnticipationBuilder, rows: datasets.Dataset, split: str | None) -> dict[str, np.ndarray]:
    """Returns what the observed frames of the rows of a split show, `(T,)` by uid: see `shown_actions`."""
    times_s, masks = (np.array(rows[name]) for name in ("frame_times", "frame_mask"))
    segments, num_actions = builder.annotations.splits[str(split)], len(builder.annotations.label_space.actions)
    video_ids = np.array(rows["video_id"], dtype=object)
    labels = shown_actions(video_ids, np.where(masks, times_s, np.nan), segments, num_actions)
    return dict(zip(rows["uid"], labels, strict=True))


def _frozen_features(args: RunArguments, data: StudentData, student: AVTForAnticipation) -> FrozenFeatures:
    """Returns the features of a student's frozen encoder for the rows of a run."""
    assert data.student_input.processor is not None
    shows = data.fingerprint["videos_content"]
    rows = (data.train, data.evaluation)
    return frozen_features(student.to(args.device), data.student_input.processor, rows, data.folder / FROZEN, shows)


def _record(args: RunArguments, trainer: DistillationTrainer, data: StudentData, seconds: float) -> dict:
    """Returns the record of a finished training for `results.json`."""
    masked, teacher, start = 0, None, args.model_name_or_path
    videos = {*_videos_of(start), *([] if args.is_as_it_is else data.train["video_id"][:])}
    if data.soft_labels is not None and args.distill_weight:
        _, found = data.soft_labels.select(data.train["uid"][:], missing="mask")
        masked = int((~found).sum())
        videos |= data.soft_labels.videos_of_teacher
        teacher = {name: value for name, value in data.soft_labels.metadata.items() if name != VIDEOS}
    return {
        "seed": args.seed,
        "num_rows": len(data.evaluation),
        "num_training_rows": len(data.train),
        "num_rows_without_teacher": masked,
        "teacher": teacher,
        TRAINING_VIDEOS: sorted(videos),
        "num_parameters": trainer.model.num_parameters(),
        "epochs": trainer.state.epoch,
        "steps": trainer.state.global_step,
        "training_s": round(seconds, 1),
        "num_processes": args.world_size,
        "device": str(args.device),
        "versions": {library.__name__: library.__version__ for library in (torch, transformers)},
        "log": trainer.state.log_history,
    }
