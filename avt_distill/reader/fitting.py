"""Fitting a reader: choosing its settings on held-out training videos, then fitting it to all of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from modeling_avt.reader_avt import HistoryReader

from ..metrics import log_loss
from ..teacher.scorer import Scorer
from .arguments import LOG_LINEAR, TEACHER, WORDED
from .frames import VideoFrames
from .tables import build_reader, transition_model

logger = logging.getLogger(__name__)

# Choices, searched one after another, starting from the first of each. Log loss is flat around them.
EVIDENCE_WEIGHTS = (0.1, 0.07, 0.14)
PRIOR_WEIGHTS = (0.33, 0.2, 0.5)
PRIOR_WEIGHTS_OF_PARTS = (10.0, 30.0)  # when verbs and nouns are read apart, of thousands of actions
HEAVIER_PRIORS = (1.0, 3.0, 10.0)  # tried next if the heaviest is the best so far: with few videos


@dataclass
class TrainingVideos:
    """The data that a reader is fitted to.

    Args:
        rows (`pd.DataFrame`): The labeled training rows: `video_id`, `observed_end_s`, `action`.
        segments (`pd.DataFrame`): Their segment table.
        frames (`dict[str, VideoFrames]`): The frames of each video.
        held_out (`dict[str, np.ndarray]`): Log probabilities of the frames by recognizers fitted to other videos.
        fold_of (`dict[str, int]`): The inner fold of each video.
        num_actions (`int`): A, the number of actions.
        tau_a (`float`): Anticipation time in seconds.
        settings (`dict`): The fields of `ReaderSettings` that are not chosen here.
        num_last (`int`): See `LogLinearModel`.
        action_parts (`np.ndarray`, *optional*): See `LogLinearModel`.
        teacher (`Scorer`, *optional*): A language model to distill.
        part_vectors (`np.ndarray`, *optional*): Vectors of the parts' names: see `WordedLogLinear`.
    """

    rows: pd.DataFrame
    segments: pd.DataFrame
    frames: dict[str, VideoFrames]
    held_out: dict[str, np.ndarray]
    fold_of: dict[str, int]
    num_actions: int
    tau_a: float
    settings: dict
    num_last: int = 1
    action_parts: np.ndarray | None = None
    teacher: Scorer | None = None
    part_vectors: np.ndarray | None = None


@dataclass
class Choice:
    """The chosen settings of a reader with one transition model.

    Args:
        kind (`str`): See `transition_model`.
        evidence_weight (`float`): Kappa.
        prior_weight (`float`): Prior weight of the log-linear model.
        log_loss (`float`): Log loss on the held-out training rows.
        answers (`np.ndarray` of shape `(N, A)`): Log probabilities for these rows.
    """

    kind: str
    evidence_weight: float
    prior_weight: float
    log_loss: float
    answers: np.ndarray


def choose_reader(videos: TrainingVideos, kind: str) -> Choice:
    """Returns the settings with the lowest log loss on held-out training rows for a kind of transition model."""
    prior_weights = PRIOR_WEIGHTS if videos.action_parts is None else PRIOR_WEIGHTS_OF_PARTS
    has_prior = kind in (LOG_LINEAR, TEACHER, WORDED)
    prior_weights = prior_weights if has_prior else prior_weights[:1]
    tried = _held_out(videos, kind, EVIDENCE_WEIGHTS, prior_weights[0])
    best = min(tried, key=lambda choice: choice.log_loss)
    for weight in prior_weights[1:]:
        tried += _held_out(videos, kind, [best.evidence_weight], weight)
    best = min(tried, key=lambda choice: choice.log_loss)
    for heavier in HEAVIER_PRIORS if has_prior else ():
        if best.prior_weight < max(choice.prior_weight for choice in tried):
            break
        if heavier > best.prior_weight:
            tried += _held_out(videos, kind, [best.evidence_weight], heavier)
            best = min(tried, key=lambda choice: choice.log_loss)
    for choice in tried:
        numbers = choice.evidence_weight, choice.prior_weight, choice.log_loss
        logger.info("Reader, %s: evidence weight %g, prior weight %g: log loss %.4f", kind, *numbers)
    return best


def fitted_reader(
    videos: TrainingVideos, names: set[str], kind: str, evidence_weight: float, prior_weight: float
) -> HistoryReader:
    """Returns a reader fitted to some of the training videos; the caller sets its fusion weights."""
    fit = transition_model(
        kind,
        videos.num_actions,
        prior_weight=prior_weight,
        num_last=videos.num_last,
        action_parts=videos.action_parts,
        teacher=videos.teacher if kind == TEACHER else None,
        part_vectors=videos.part_vectors,
    )
    segments = videos.segments.loc[videos.segments["video_id"].isin(names)]
    labels = [video.labels for name, video in videos.frames.items() if name in names]
    settings = {**videos.settings, "evidence_weight": evidence_weight, "fusion_weights": [0.5, 0.5]}
    return build_reader(segments, labels, fit, videos.num_actions, settings)


def read_rows(
    reader: HistoryReader,
    log_probs: Mapping[str, np.ndarray],
    frames: Mapping[str, VideoFrames],
    rows: pd.DataFrame,
    tau_a: float,
) -> np.ndarray:
    """Returns a reader's log probabilities at the end of each row's observed window, `(N, A)`.

    Args:
        reader (`HistoryReader`): Reads each video from its first frame, as a pipeline does.
        log_probs (`dict[str, np.ndarray]`): Of the frames of each video, `(F, A + 1)`.
        frames (`dict[str, VideoFrames]`): When these are shown.
        rows (`pd.DataFrame`): `video_id` and `observed_end_s`; nothing else is read.
        tau_a (`float`): Seconds.
    """
    answers = np.empty((len(rows), reader.num_actions))
    ends = rows["observed_end_s"].to_numpy()
    video_ids = rows["video_id"].to_numpy()
    for video_id in sorted(set(video_ids)):
        positions = np.flatnonzero(video_ids == video_id)
        positions = positions[np.argsort(ends[positions], kind="stable")]
        times_s = frames[video_id].times_s
        of_video = reader.begin_video(midway=reader.skips_beginning(times_s[0]))
        found = of_video.answers_at(ends[positions].tolist(), log_probs[video_id], times_s, tau_a)
        answers[positions] = torch.stack([answer for answer, _ in found]).numpy()
    return answers


def _held_out(
    videos: TrainingVideos, kind: str, evidence_weights: Sequence[float], prior_weight: float
) -> list[Choice]:
    """Returns for each evidence weight the answers of readers on the inner folds that they were not fitted to.

    The readers are fitted once, since their tables do not depend on it.
    """
    answers = [np.empty((len(videos.rows), videos.num_actions)) for _ in evidence_weights]
    fold_of_row = videos.rows["video_id"].map(videos.fold_of).to_numpy()
    for fold in set(videos.fold_of.values()):
        others = {name for name, other in videos.fold_of.items() if other != fold}
        reader, own = fitted_reader(videos, others, kind, evidence_weights[0], prior_weight), fold_of_row == fold
        for evidence_weight, of_weight in zip(evidence_weights, answers, strict=True):
            reader.settings = replace(reader.settings, evidence_weight=evidence_weight)
            of_weight[own] = read_rows(reader, videos.held_out, videos.frames, videos.rows.loc[own], videos.tau_a)
    labels = videos.rows["action"].to_numpy()
    return [
        Choice(kind, evidence_weight, prior_weight, log_loss(of_weight, labels), of_weight)
        for evidence_weight, of_weight in zip(evidence_weights, answers, strict=True)
    ]
