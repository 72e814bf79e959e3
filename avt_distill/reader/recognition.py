"""What frames show: recognisers of stored features, or those of students of videos, calibrated on held-out videos."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.special
import torch

from modeling_avt.modeling_avt import AVTForAnticipation

from ..student.logistic import LinearClassifier, choose_l2, fit_logistic, log_loss, out_of_fold_log_probs
from .frames import FrameSource, VideoFrames, encoded_frames, read_frames_of, stored_frames
from .members import FoldRun

logger = logging.getLogger(__name__)

FrameLogProbs = dict[str, np.ndarray]  # (F, A + 1) of each video
L2_CHOICES = (100.0, 300.0, 1000.0)
TEMPERATURES = np.geomspace(0.25, 8, 51)


@dataclass
class Recognition:
    """What the frames of a fold's videos show, and how a student comes to say so.

    Args:
        frames (`dict[str, VideoFrames]`): Of the training videos.
        held_out (`dict[str, np.ndarray]`): Their log probabilities, by recognisers that were fitted to other videos.
        classifier (`LinearClassifier`, *optional*): Of stored features.
        temperature (`float`): That the logits of a student of videos are divided by.
    """

    frames: dict[str, VideoFrames]
    held_out: FrameLogProbs
    classifier: LinearClassifier | None = None
    temperature: float = 1.0

    def give_to(self, model: AVTForAnticipation, width: int | None):
        """Makes a student recognise frames, calibrated; `width`: see `config.recognizer_feature_dim`."""
        with torch.no_grad():
            if self.classifier is not None:
                mean, deviation = np.zeros(model.config.feature_dim), np.ones(model.config.feature_dim)
                if model.config.standardize_features:
                    mean, deviation = (
                        values.double().cpu().numpy()
                        for values in (model.avt.feature_mean, model.avt.feature_deviation)
                    )
                num_classes, num_columns = self.classifier.weight.shape
                model.recognizer = torch.nn.Linear(num_columns, num_classes).to(model.device)
                self.classifier.on_standardized(mean, deviation).load_into(model.recognizer)
                model.config.recognizes_frames, model.config.recognizer_feature_dim = True, width
            assert model.recognizer is not None
            for parameter in model.recognizer.parameters():
                parameter.div_(self.temperature)


def recognition_of(run: FoldRun, variant: str) -> Recognition:
    """Returns what the training videos' frames show, to a student of a variant.

    Raises:
        ValueError: for students of videos that recognise no frames.
    """
    model = student(run, variant)
    videos, segments = sorted(run.fold_of), run.builder.annotations.splits[run.args.train_split]
    if run.data.seen.store is None and not model.config.recognizes_frames:
        raise ValueError(
            "The students of videos recognise no frames: train them with --model_options "
            "'{\"recognizes_frames\": true}', in another output_dir."
        )
    frames = read_frames_of(videos, frame_source(run, model), segments, run.num_actions)
    if run.data.seen.store is None:
        held_out, classifier = _by_inner_students(run, variant, segments), None
    else:
        held_out, classifier = _by_classifiers(run, frames)
    labels = np.concatenate([frames[name].labels for name in videos])
    temperature = _calibrated(np.concatenate([held_out[name] for name in videos]), labels)
    held_out = {name: scipy.special.log_softmax(held_out[name] / temperature, axis=1) for name in videos}
    right, loss = share_right(held_out, frames), log_loss(np.concatenate(list(held_out.values())), labels)
    logger.info("Held-out frames: %.1f %% right, log loss %.3f at temperature %.2f.", 100 * right, loss, temperature)
    return Recognition(frames, held_out, classifier, temperature)


def recognised(model: AVTForAnticipation, frames: dict[str, VideoFrames]) -> FrameLogProbs:
    """Returns what a model says that frames show."""
    with torch.inference_mode():
        return {
            name: model.recognize_frames(torch.from_numpy(video.features).to(model.device)).double().cpu().numpy()
            for name, video in frames.items()
        }


def share_right(log_probs: FrameLogProbs, frames: dict[str, VideoFrames]) -> float:
    """Returns the share of labelled frames whose likeliest class is theirs."""
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
    """Returns where the frames that a reader reads come from."""
    seen, rate = run.data.seen, run.args.reader_frame_rate
    if seen.store is not None:
        return stored_frames(seen.store, rate)
    files: dict[str, str] = {}
    for rows in (run.data.train, run.data.evaluation):
        files |= dict(zip(rows["video_id"], rows["video"], strict=True))
    assert seen.processor is not None
    return encoded_frames(model, seen.processor, files, rate or model.config.frame_rate)


def _by_classifiers(run: FoldRun, frames: dict[str, VideoFrames]) -> tuple[FrameLogProbs, LinearClassifier]:
    """Returns out-of-fold log probabilities of stored features, and a classifier fitted to all."""
    names, num_classes = list(frames), run.num_actions + 1
    features = np.concatenate([frames[name].features[:, : run.args.recognizer_feature_dim] for name in names])
    labels = np.concatenate([frames[name].labels for name in names])
    lengths = [len(frames[name].labels) for name in names]
    folds = np.repeat([run.fold_of[name] for name in names], lengths)
    device = run.args.device
    l2 = choose_l2(features, labels, folds, num_classes, L2_CHOICES, device)
    log_probs = out_of_fold_log_probs(features, labels, folds, num_classes, l2, device)
    held_out = dict(zip(names, np.split(log_probs, np.cumsum(lengths)[:-1]), strict=True))
    return held_out, fit_logistic(features, labels, num_classes, l2, device)


def _by_inner_students(run: FoldRun, variant: str, segments: pd.DataFrame) -> FrameLogProbs:
    """Returns what the students of the inner folds say of the videos that they did not see."""
    held_out: FrameLogProbs = {}
    for fold in range(run.args.inner_folds):
        model = load_student(run, run.inner_arguments(variant, fold).output_dir)
        own = [name for name, fold_of_video in run.fold_of.items() if fold_of_video == fold]
        held_out |= recognised(model, read_frames_of(own, frame_source(run, model), segments, run.num_actions))
    return held_out


def _calibrated(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature that gives held-out frames the least log loss."""
    losses = [log_loss(scipy.special.log_softmax(log_probs / value, axis=1), labels) for value in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])
