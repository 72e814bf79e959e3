"""Fitting the readers of a run, of one fold or all, and comparing them with text-free models on evaluation rows."""

import copy
import logging
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from modeling_avt.configuration_avt import actions_digest
from modeling_avt.modeling_avt import AVTForAnticipation
from modeling_avt.reader_avt import HistoryReader

from ..data.loading import choose_splits, dataset_builder
from ..data.performances import check_unseen, performance_of
from ..evaluation.benchmark_metrics import benchmark_metrics
from ..evaluation.calibrating import fitted_calibration
from ..evaluation.scores import WEIGHTS, ScoreTable
from ..runs.fingerprints import checkpoint_digest, weights_digest
from ..runs.folder import SETTINGS, check_processes, keep_settings, read_record, whole_files, write_json, write_text
from ..runs.lock import locked
from ..runs.outputs import check_output, holds
from ..sharing.card_values import CALIBRATED, READER_COMPARISON
from ..sharing.cards import student_card, write_card
from ..student.building import check_as_it_is
from ..student.calibration import keep_calibration
from ..student.run import card_name, variants
from ..student.training import RESULTS, student_data, table_metadata
from ..teacher.fine_tuning import videos_of_teacher
from ..teacher.log_linear import LogLinearModel
from ..teacher.prediction import TeacherScorer
from ..teacher.worded import name_vectors
from .arguments import ReaderArguments
from .fitting import TrainingVideos, choose_reader, fitted_reader, read_rows
from .frames import common_rate, read_frames_of
from .members import FoldRun, Member, fuse, probe_member, student_member
from .recognition import Recognition, frame_source, recognition_of, recognized, share_right, student
from .report import FoldResult, report
from .tables import whole_histories

logger = logging.getLogger(__name__)

LARGE_LABEL_SPACE = (
    500  # actions from which on verbs and nouns are read apart, and followers of each hypothesis at most
)
CHOSEN = "chosen.json"
NAME_OF_FOLD = "{fold}"  # in the paths of `soft_labels` and of these options
OF_FOLDS = ("features", "model_name_or_path", "backbone", "teacher", "language_model")


def fit_readers(args: ReaderArguments) -> str:
    """Fits the readers of a run, and returns the comparison as text (empty except in the main process).

    Students are trained first unless they are finished, with another one for each inner fold of the training videos.

    Raises:
        ValueError: If data and options do not fit together, or the folder belongs to another run.
    """
    check_processes(args.world_size)
    with locked(args.folder):
        return _fit_readers(args)


def _fit_readers(args: ReaderArguments) -> str:
    results = {}
    for name, of_fold in fold_arguments(args).items():
        with locked(of_fold.folder):
            results[name] = fit_fold(of_fold)
    if not args.should_save:
        return ""
    text = report(args.folder, results, args.seeds or [args.seed])
    _write_cards(args, results.values())
    return text


def fold_arguments(args: ReaderArguments) -> dict[str, ReaderArguments]:
    """Returns the arguments of each fold by its name, or those that are given if not all folds are asked for."""
    if args.folds is None:
        return {"": args}
    builder = dataset_builder(args)
    if not builder.folds():
        raise ValueError(f"folds is all, but {args.dataset} has no folds: add a column fold to its segments.csv.")
    folds = {}
    for name, options in builder.folds().items():
        fold = folds[name] = copy.copy(args)
        fold.output_dir = str(args.folder / name)
        fold.soft_labels = [path.replace(NAME_OF_FOLD, name) for path in args.soft_labels or []] or None
        for option in OF_FOLDS:
            path = getattr(args, option)
            setattr(fold, option, None if path is None else path.replace(NAME_OF_FOLD, name))
        for option, value in options.items():
            setattr(fold, option, value)
    return folds


def fit_fold(args: ReaderArguments) -> FoldResult:
    """Fits the students, the probe and the readers of a fold, and returns their answers."""
    builder = dataset_builder(args)
    choose_splits(args, builder)
    with args.main_process_first(local=False):
        run = FoldRun(args, builder, student_data(args, builder))
    _check_recognizer_width(run)
    if run.is_given:
        check_as_it_is(str(args.model_name_or_path), builder)
    teacher = None if args.teacher is None else TeacherScorer.from_pretrained(args.teacher)
    if teacher is not None:  # before students are trained
        teacher.check_label_space(builder.annotations.label_space, str(args.teacher))
        seen = videos_of_teacher(str(args.teacher)) or []
        check_unseen(f"teacher {args.teacher}", seen, run.rows["video_id"], run.train["video_id"])
    last = list(variants(args))[-1]
    inputs = {"model_name_or_path": args.model_name_or_path}
    for seed in run.seeds:
        folder = args.folder / f"reader_seed{seed}"
        made_here = holds(f"../reader/{SETTINGS}")
        check_output("output_dir", folder, inputs, made_here=made_here, writes=("config.json",))
    students = [student_member(run, variant) for variant in variants(args)]
    folder = args.folder / "reader"
    keep_settings(folder / SETTINGS, _settings(run), should_save=args.should_save, what="a reader")
    recognition = recognition_of(run, last)
    videos = _training_videos(run, recognition, teacher)
    choices = {kind: choose_reader(videos, kind) for kind in args.kinds}
    readers = {
        kind: fitted_reader(videos, set(videos.fold_of), kind, choice.evidence_weight, choice.prior_weight)
        for kind, choice in choices.items()
    }
    read, right = _read(run, last, recognition, readers)
    members = [Member(f"reader, {kind}", choices[kind].answers, read[kind]) for kind in readers]
    if run.data.probe is not None:
        members.insert(0, probe_member(run))
    labels, weights, fused = run.train["action"].to_numpy(), {}, []
    # The last member, the reader that stays, helps every student; the others, for comparison, the first.
    for member in members:
        for one in students if member is members[-1] else students[:1]:
            pair, weights_of_pair = fuse(one, member, labels)
            fused.append(pair)
            weights[pair.name] = weights_of_pair
    answers = {member.name: member.answers for member in [*students, *members, *fused]}
    answers["true history"] = [_true_history(run, videos, choices[args.kinds[-1]].prior_weight)] * len(run.seeds)
    # Otherwise it depends on students: on their recognizers, or on frames that they encode.
    is_apart = bool(recognition.classifiers) and run.data.student_input.store is not None
    chosen = {
        "probe_l2": None if run.data.probe is None else run.data.probe.l2,
        "temperature": recognition.temperature,
        "readers": {kind: {k: v for k, v in asdict(c).items() if k != "answers"} for kind, c in choices.items()},
        "weights": weights,
        "frames_recognized_by": "a classifier of stored features" if is_apart else students[-1].name,
        "held_out_frames_right": share_right(recognition.held_out, recognition.frames),
        "evaluation_frames_right": right,
    }
    reader = readers[args.kinds[-1]]
    if not any(weights[fused[-1].name]):
        raise ValueError(
            f"Of the {len(labels)} held-out training rows neither the student nor the reader is better than chance, so "
            "there is nothing to pool: train the student for longer, or on more videos."
        )
    calibrations = _calibrations(run, students[-1], fused[-1])
    chosen["calibrations"] = calibrations
    of_pool = calibrations.get(fused[-1].name)
    reader.settings = replace(reader.settings, fusion_weights=weights[fused[-1].name], calibration=of_pool)
    folders = _save(run, last, recognition, reader, fused[-1], calibrations.get(students[-1].name))
    result = FoldResult(run.rows, answers, chosen, students[-1].name, fused[-1].name, folders)
    if args.should_save:
        _write(run, folder, result)
    return result


def _calibrations(run: FoldRun, student: Member, pool: Member) -> dict[str, dict]:
    """Returns the calibration of a student alone and of its pool with a reader, by name; none of a student as it is.

    The weights of a pool have the least log loss on the held-out rows, so its temperature is 1: another one would only
    be other weights.
    """
    labels, videos = run.train["action"].to_numpy(), run.train["video_id"].map(performance_of).tolist()
    calibrations = {}
    for member, temperature in ((student, None), (pool, 1.0)):
        if member.held_out is not None:
            try:
                calibrations[member.name] = fitted_calibration(
                    member.held_out, labels, videos, temperature=temperature, error_rate=run.args.error_rate
                )
            except ValueError as error:  # no temperature is best: the run is still measured
                logger.warning("'%s' is not calibrated. %s", member.name, error)
    return calibrations


def _check_recognizer_width(run: FoldRun):
    """Raises a `ValueError` if the recognizer is to read more columns than stored features have."""
    width, store = run.args.recognizer_feature_dim, run.data.student_input.store
    if width is not None and store is not None and width > store.feature_dim:
        raise ValueError(
            f"recognizer_feature_dim is {width}, but features have {store.feature_dim} columns: give at most as many."
        )


def _settings(run: FoldRun) -> dict:
    """Returns the settings that determine the readers, apart from the students."""
    own = [name for name in ReaderArguments.__annotations__ if name not in ("TITLE", "folds")]
    settings = {name: getattr(run.args, name) for name in own} | {"seeds": run.seeds}
    models = {"teacher_content": run.args.teacher, "language_model_content": run.args.language_model}
    return settings | {name: checkpoint_digest(path) for name, path in models.items()} | run.data.fingerprint


def _training_videos(run: FoldRun, recognition: Recognition, teacher: TeacherScorer | None) -> TrainingVideos:
    args, space = run.args, run.builder.annotations.label_space
    most_followers = LARGE_LABEL_SPACE if run.num_actions > LARGE_LABEL_SPACE else None
    settings = {
        "frame_rate": common_rate(recognition.frames),
        "actions": actions_digest(space.actions),
        "num_phases": args.num_phases,
        "beam": args.beam,
        "min_start": args.min_start,
        "followers": args.followers or most_followers,
    }
    parts = None
    if run.num_actions >= LARGE_LABEL_SPACE and space.action_to_verb_noun is not None:
        parts = space.verb_noun_ids + np.array([0, len(space.verbs)])
    return TrainingVideos(
        rows=run.train,
        segments=run.builder.annotations.splits[args.train_split],
        frames=recognition.frames,
        held_out=recognition.held_out,
        fold_of=run.fold_of,
        num_actions=run.num_actions,
        tau_a=run.builder.config.tau_a,
        settings=settings,
        num_last=args.num_last,
        action_parts=parts,
        teacher=teacher,
        part_vectors=None if args.language_model is None else _vectors(run, args.language_model, parts is not None),
    )


def _vectors(run: FoldRun, language_model: str, parts_apart: bool) -> np.ndarray:
    """Returns vectors of the names of actions, or of verbs and nouns, by a language model."""
    space, nouns = run.builder.annotations.label_space, run.builder.HEAD_NOUN_FIRST
    return name_vectors(space, language_model, head_noun_first=nouns, parts_apart=parts_apart)


def _read(
    run: FoldRun, variant: str, recognition: Recognition, readers: dict[str, HistoryReader]
) -> tuple[dict[str, list[np.ndarray]], float]:
    """Returns the answers of readers on the evaluation rows, `(M, A)` for each seed, and the share of frames that are
    recognized correctly, averaged over seeds."""
    segments = run.builder.annotations.splits[str(run.args.evaluation_split)]
    videos, tau_a = sorted(set(run.rows["video_id"])), run.builder.config.tau_a
    read: dict[str, list[np.ndarray]] = {kind: [] for kind in readers}
    correct = []
    for seed in run.seeds[:1] if recognition.same_for_all else run.seeds:
        model = student(run, variant, seed)
        recognition.give_to(model, seed, run.args.recognizer_feature_dim)
        frames = read_frames_of(videos, frame_source(run, model), segments, run.num_actions)
        log_probs = recognized(model, frames)
        correct.append(share_right(log_probs, frames))
        for kind, reader in readers.items():
            read[kind].append(read_rows(reader, log_probs, frames, run.rows, tau_a))
    if recognition.same_for_all:
        read = {kind: answers * len(run.seeds) for kind, answers in read.items()}
    return read, float(np.mean(correct))


def _true_history(run: FoldRun, videos: TrainingVideos, prior_weight: float) -> np.ndarray:
    """Returns a log-linear model's predictions from the true histories of the evaluation rows: a ceiling, not an
    answer."""
    histories, actions = whole_histories(videos.segments)
    options = {"num_last": videos.num_last, "action_parts": videos.action_parts}
    model = LogLinearModel(run.num_actions, prior_weight=prior_weight, **options)
    return model.fit(histories, actions).logits(run.data.evaluation["history"]).astype(np.float64)


def _save(
    run: FoldRun,
    variant: str,
    recognition: Recognition,
    reader: HistoryReader,
    pool: Member,
    calibration: dict | None,
) -> list[Path]:
    """Writes each seed's student with the reader and their results, and returns the folders.

    Args:
        run, variant, recognition, reader: The student of which variant, and what it gets.
        pool (`Member`): What the two answer together.
        calibration (`dict`, *optional*): Of the student alone.
    """
    folders = [run.args.folder / f"reader_seed{seed}" for seed in run.seeds]
    if run.args.should_save:
        for seed, folder, log_probs in zip(run.seeds, folders, pool.answers, strict=True):
            model = student(run, variant, seed)
            recognition.give_to(model, seed, run.args.recognizer_feature_dim)
            model.attach_reader(reader)
            model.config.calibration = calibration
            with whole_files(folder, replaces=[CALIBRATED]) as unfinished:
                model.save_pretrained(unfinished)
                keep_calibration(folder, unfinished)
                if run.data.student_input.processor is not None:
                    run.data.student_input.processor.save_pretrained(unfinished)
            of_student = run.arguments(variant, seed).folder
            write_text(folder / SETTINGS, (of_student / SETTINGS).read_text(encoding="utf-8"))
            table = _score_table(run, pool.name, seed, log_probs, folder)
            write_json(folder / RESULTS, _results(run, model, of_student, table))
    return folders


def _results(run: FoldRun, model: AVTForAnticipation, student_folder: Path, table: ScoreTable) -> dict:
    """Returns the results of a student with its reader: its own scores, and how the student was trained."""
    training = {k: v for k, v in read_record(student_folder / RESULTS, "metrics").items() if k not in ("losses", "log")}
    return training | {
        "scores": table.metadata,
        "metrics": benchmark_metrics(table, run.builder.annotations, verbs_and_nouns=True),
        "num_parameters": model.num_parameters(),
    }


def _score_table(run: FoldRun, name: str, seed: int, log_probs: np.ndarray, folder: Path | None = None) -> ScoreTable:
    """Returns what a member answers on the evaluation rows; `folder`: the checkpoint that answers so."""
    metadata = {"split": run.args.evaluation_split, "model": name, "seed": seed, "train_split": run.args.train_split}
    metadata |= {} if folder is None else {WEIGHTS: weights_digest(folder)}
    labels, videos = run.rows["action"].to_numpy(), list(run.rows["video_id"])
    return ScoreTable(list(run.rows["uid"]), log_probs, labels, table_metadata(run.builder, **metadata), videos)


def _write(run: FoldRun, folder: Path, result: FoldResult):
    """Writes the scores of every member and seed, and what was chosen."""
    split = run.args.evaluation_split
    for name, of_seeds in result.answers.items():
        for seed, log_probs, checkpoint in zip(run.seeds, of_seeds, result.folders, strict=True):
            path = folder / f"scores_{split}_{name.replace(', ', '_').replace(' ', '_')}_seed{seed}.parquet"
            _score_table(run, name, seed, log_probs, checkpoint if name == result.pool else None).save(path)
    write_json(folder / CHOSEN, result.chosen)


def _write_cards(args: ReaderArguments, results: Iterable[FoldResult]):
    """Writes the comparison into the folder of each student with its reader, and a card for each fold's first seed."""
    for result in results:
        for folder in result.folders:
            write_text(folder / READER_COMPARISON, (args.folder / READER_COMPARISON).read_text(encoding="utf-8"))
        first = result.folders[0]
        write_card(first, student_card(first, card_name(args, first)))
