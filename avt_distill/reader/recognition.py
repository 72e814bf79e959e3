"""Frame recognizers, calibrated on held-out videos: classifiers of stored features, or those of students of videos."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.special
import torch

from modeling_avt.modeling_avt import AVTForAnticipation

from ..runs.checkpoints import check_scores
from ..student.logistic import LinearClassifier, fit_logistic, labelled_log_loss
from .frames import FrameSource, VideoFrames, encoded_frames, read_frames_of, stored_frames
from .members import FoldRun

logger = logging.getLogger(__name__)

FrameLogProbs = dict[str, np.ndarray]  # (F, A + 1) of each video
L2_CHOICES = (100.0, 300.0, 1000.0)
TEMPERATURES = np.geomspace(0.25, 8, 51)


@dataclass
class Recognition:
    """Recognition results for a fold's training videos, and the recognizer to add to each student.

    Args:
        frames (`dict[str, VideoFrames]`): Of the training videos, with the features of the first seed's student.
        held_out (`dict[str, np.ndarray]`): Their log probabilities, by recognizers of the first seed that were fitted
            to other videos.
        temperature (`float`): Temperature of these, which recognizers of all seeds get.
        classifiers (`dict[int, LinearClassifier]`): A classifier of frame features for each seed, the same for all if
            features are stored; empty if students have recognizers of their own.
    """

    frames: dict[str, VideoFrames]
    held_out: FrameLogProbs
    temperature: float
    classifiers: dict[int, LinearClassifier]

    @property
    def same_for_all(self) -> bool:
        """Whether the students of all seeds recognize the same, because they have the same classifier."""
        return len(set(map(id, self.classifiers.values()))) == 1

    def give_to(self, model: AVTForAnticipation, seed: int, width: int | None):
        """Adds the calibrated recognizer to the student of a seed; `width`: see `config.recognizer_feature_dim`."""
        with torch.no_grad():
            if seed in self.classifiers:
                classifier = self.classifiers[seed]
                mean, deviation = np.zeros(model.config.feature_dim), np.ones(model.config.feature_dim)
                if model.config.standardize_features:
                    mean, deviation = (
                        values.double().cpu().numpy()
                        for values in (model.avt.feature_mean, model.avt.feature_deviation)
                    )
                num_classes, num_columns = classifier.weight.shape
                model.recognizer = torch.nn.Linear(num_columns, num_classes).to(model.device)
                classifier.on_standardized(mean, deviation).load_into(model.recognizer)
                model.config.recognizes_frames, model.config.recognizer_feature_dim = True, width
            assert model.recognizer is not None
            for parameter in model.recognizer.parameters():
                parameter.div_(self.temperature)


def recognition_of(run: FoldRun, variant: str) -> Recognition:
    """Returns the recognition results for the training videos, for students of a variant.

    A student with a frame recognizer uses its own; for others a linear classifier of frame features is fitted.
    Temperature and L2 penalty are those of the first seed, whose students there are for each inner fold.
    """
    model = student(run, variant)
    if run.is_given and run.data.student_input.store is None:
        logger.warning(
            "The student was not trained here: if its training videos include these, it recognizes their frames "
            "better than others, and the reader will trust it too much."
        )
    videos, segments = sorted(run.fold_of), run.builder.annotations.splits[run.args.train_split]
    frames = read_frames_of(videos, frame_source(run, model), segments, run.num_actions)
    labels = np.concatenate([frames[name].labels for name in videos])
    classifiers: dict[int, LinearClassifier] = {}
    if model.config.recognizes_frames:
        held_out = {}
        for fold, (inner, of_fold) in enumerate(_by_inner_students(run, variant, frames)):
            own = {name: of_fold[name] for name in videos if run.fold_of[name] == fold}
            held_out |= recognized(inner, own)
    else:
        held_out, l2 = _held_out_by_classifiers(run, variant, frames)
        classifiers = _classifiers(run, variant, frames, l2)
    temperature = best_temperature(np.concatenate([held_out[name] for name in videos]), labels)
    held_out = {name: scipy.special.log_softmax(held_out[name] / temperature, axis=1) for name in videos}
    right, loss = (
        share_right(held_out, frames),
        labelled_log_loss(np.concatenate([held_out[n] for n in videos]), labels),
    )
    logger.info("Held-out frames: %.1f %% right, log loss %.3f at temperature %.2f.", 100 * right, loss, temperature)
    return Recognition(frames, held_out, temperature, classifiers)


def recognized(model: AVTForAnticipation, frames: dict[str, VideoFrames]) -> FrameLogProbs:
    """Returns a model's log probabilities of what frames show; raises `ValueError` if they are not finite."""
    recognized_frames = {}
    with torch.inference_mode():
        for name, video in frames.items():
            log_probs = model.recognize_frames(torch.from_numpy(video.features).to(model.device))
            check_scores(log_probs)
            recognized_frames[name] = log_probs.double().cpu().numpy()
    return recognized_frames


def share_right(log_probs: FrameLogProbs, frames: dict[str, VideoFrames]) -> float:
    """Returns the share of labeled frames whose likeliest class is theirs."""
    hits = [(log_probs[name].argmax(1) == video.labels)[video.labels >= 0] for name, video in frames.items()]
    return float(np.concatenate(hits).mean())


def student(run: FoldRun, variant: str, seed: int | None = None) -> AVTForAnticipation:
    """Returns a student of a variant, by default of the first seed."""
    folder = run.arguments(variant, run.seeds[0] if seed is None else seed).output_dir
    return load_student(run, folder)


def load_student(run: FoldRun, folder: str | Path | None) -> AVTForAnticipation:
    model = AVTForAnticipation.from_pretrained(folder)
    return model.to(run.args.device).eval()


def frame_source(run: FoldRun, model: AVTForAnticipation) -> FrameSource:
    """Returns the source of the frames that a reader reads: a feature store, or videos encoded by the model."""
    student_input, rate = run.data.student_input, run.args.reader_frame_rate
    if student_input.store is not None:
        return stored_frames(student_input.store, rate)
    files: dict[str, str] = {}
    for rows in (run.data.train, run.data.evaluation):
        files |= dict(zip(rows["video_id"], rows["video"], strict=True))
    assert student_input.processor is not None
    return encoded_frames(model, student_input.processor, files, rate or model.config.frame_rate)


def _held_out_by_classifiers(run: FoldRun, variant: str, frames: dict[str, VideoFrames]) -> tuple[FrameLogProbs, float]:
    """Returns log probabilities of each video's frames by a classifier of other folds, and its L2 penalty.

    The penalty is the one with the least log loss; those above one that is worse than the one below are not tried.
    """
    of_folds = [of_fold for _, of_fold in _by_inner_students(run, variant, frames)]
    labels = np.concatenate([video.labels for video in frames.values()])
    best, least, penalty = {}, np.inf, L2_CHOICES[0]
    for l2 in L2_CHOICES:
        held_out: FrameLogProbs = {}
        for fold, of_fold in enumerate(of_folds):
            held_out |= _classified(run, of_fold, fold, l2)
        loss = labelled_log_loss(np.concatenate([held_out[name] for name in frames]), labels)
        if loss >= least:
            break
        best, least, penalty = held_out, loss, l2
    return best, penalty


def _classifiers(run: FoldRun, variant: str, frames: dict[str, VideoFrames], l2: float) -> dict[int, LinearClassifier]:
    """Returns a classifier for each seed, of the training videos' frames as the student of that seed encodes them.

    `frames` has the features of the first seed. Stored features, and their classifier, are the same for all.
    """

    def fitted(frames: dict[str, VideoFrames]) -> LinearClassifier:
        features = np.concatenate([_leading(run, video) for video in frames.values()])
        labels = np.concatenate([video.labels for video in frames.values()])
        return fit_logistic(features, labels, run.num_actions + 1, l2, run.args.device)

    found = dict.fromkeys(run.seeds, fitted(frames))
    if run.data.student_input.store is None:
        segments = run.builder.annotations.splits[run.args.train_split]
        for seed in run.seeds[1:]:
            source = frame_source(run, student(run, variant, seed))
            found[seed] = fitted(read_frames_of(frames, source, segments, run.num_actions))
    return found


def _classified(run: FoldRun, frames: dict[str, VideoFrames], fold: int, l2: float) -> FrameLogProbs:
    """Returns log probabilities of a fold's videos by a classifier of the others."""
    others = [video for name, video in frames.items() if run.fold_of[name] != fold]
    features = np.concatenate([_leading(run, video) for video in others])
    labels = np.concatenate([video.labels for video in others])
    fitted = fit_logistic(features, labels, run.num_actions + 1, l2, run.args.device)
    return {name: fitted.log_probs(_leading(run, video)) for name, video in frames.items() if run.fold_of[name] == fold}


def _by_inner_students(
    run: FoldRun, variant: str, frames: dict[str, VideoFrames]
) -> Iterator[tuple[AVTForAnticipation, dict[str, VideoFrames]]]:
    """Yields the student of each inner fold, and the training videos' frames as it encodes them.

    Stored features are the same to all. A student that is given replaces those of the inner folds.
    """
    segments = run.builder.annotations.splits[run.args.train_split]
    for fold in range(run.args.inner_folds):
        inner = run.arguments(variant, run.seeds[0]) if run.is_given else run.inner_arguments(variant, fold)
        model = load_student(run, inner.output_dir)
        if run.data.student_input.store is not None or run.is_given:
            yield model, frames
        else:
            yield model, read_frames_of(frames, frame_source(run, model), segments, run.num_actions)


def _leading(run: FoldRun, video: VideoFrames) -> np.ndarray:
    """Returns the columns of a video's features that the recognizer reads."""
    return video.features[:, : run.args.recognizer_feature_dim]


def best_temperature(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature that gives held-out frames the least log loss."""
    losses = [labelled_log_loss(scipy.special.log_softmax(log_probs / value, axis=1), labels) for value in TEMPERATURES]
    best = float(TEMPERATURES[int(np.argmin(losses))])
    if best == TEMPERATURES[-1]:
        logger.warning(
            "On held-out frames the recognizer is too sure of itself even at temperature %g, the highest that is "
            "tried: train it on more videos.",
            best,
        )
    return best
