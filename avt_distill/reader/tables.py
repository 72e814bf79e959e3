"""Fitting a reader's tables to training videos: transitions, durations and frame priors."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import scipy.special
import torch

from modeling_avt.configuration_avt import ReaderSettings
from modeling_avt.reader_avt import HistoryReader
from modeling_avt.transitions_avt import LogLinearTransitions, NGramTransitions

from ..data.history import action_histories
from ..teacher.count_models import NGramModel
from ..teacher.log_linear import LogLinearModel
from ..teacher.scorer import Scorer
from ..teacher.worded import WordedLogLinear
from .arguments import ORDERS, WORDED

LONGEST_STEP = 0.98  # largest probability to leave a phase or gap in a frame
PRIOR_SEGMENTS = 2.0  # pseudo-segments with the mean over all actions, to which an action's duration is shrunk

TransitionModel = NGramModel | LogLinearModel
FitTransitions = Callable[[pd.DataFrame], TransitionModel]  # from segments of training videos


def transition_model(
    kind: str,
    num_actions: int,
    *,
    prior_weight: float = 1.0,
    num_last: int = 1,
    action_parts: np.ndarray | None = None,
    teacher: Scorer | None = None,
    part_vectors: np.ndarray | None = None,
) -> FitTransitions:
    """Returns a function that fits a transition model to the complete action sequences of videos.

    Args:
        kind (`str`): `"unigram"`, `"bigram"`, `"trigram"`, `"log-linear"`; `"teacher"`, a log-linear model that a
            teacher is distilled into; or `"worded"`, one that vectors of names shape: see `WordedLogLinear`.
        num_actions (`int`): A, the number of actions.
        prior_weight, num_last, action_parts: Arguments of `LogLinearModel`.
        teacher (`Scorer`, *optional*): The teacher.
        part_vectors (`np.ndarray`, *optional*): The vectors: see `worded.name_vectors`.
    """

    def fit(segments: pd.DataFrame) -> TransitionModel:
        histories, actions = whole_histories(segments)
        if kind in ORDERS:
            return NGramModel(ORDERS[kind], num_actions).fit(histories, actions)
        if kind == WORDED:
            options = {"prior_weight": prior_weight, "num_last": num_last, "action_parts": action_parts}
            return WordedLogLinear(num_actions, part_vectors, **options).fit(histories, actions)
        targets = actions if teacher is None else scipy.special.softmax(teacher.logits(histories), axis=1)
        model = LogLinearModel(num_actions, prior_weight=prior_weight, num_last=num_last, action_parts=action_parts)
        return model.fit(histories, targets)

    return fit


def as_tables(model: TransitionModel) -> NGramTransitions | LogLinearTransitions:
    """Converts a teacher's transition model to the equivalent module of `modeling_avt.transitions_avt`."""
    if isinstance(model, NGramModel):
        contexts, order = model.contexts, model.order
        grams = NGramTransitions(model.num_actions, order, len(contexts))
        for row, context in enumerate(contexts):
            if context:
                grams.contexts[row, order - 1 - len(context) :] = torch.tensor(context)
        grams.context_log_probs.copy_(torch.from_numpy(model.logits(contexts)))
        return grams
    parts = model.action_parts
    found = LogLinearTransitions(model.num_actions, model.num_parts, parts.shape[1], model.num_last)
    found.action_parts.copy_(torch.from_numpy(parts))
    of_last, of_past = model.weights.split([len(model.weights) - model.num_parts, model.num_parts])
    found.last_weights.copy_(of_last.unflatten(0, (model.num_last, -1)))
    found.past_weights.copy_(of_past)
    found.bias.copy_(model.bias)
    return found


def whole_histories(segments: pd.DataFrame) -> tuple[list[list[int]], list[int]]:
    """Returns the complete history of each labeled action of the videos, and these actions."""
    labelled = segments.loc[segments["action"] >= 0].sort_values(["video_id", "start_s", "end_s"], kind="stable")
    labelled = labelled.reset_index(drop=True).assign(observed_end_s=lambda table: table["start_s"])
    histories = action_histories(labelled, labelled, cutoff="segment_start")
    return [history.tolist() for history in histories], labelled["action"].tolist()


def build_reader(
    segments: pd.DataFrame,
    frame_labels: Sequence[np.ndarray],
    fit_transitions: FitTransitions,
    num_actions: int,
    settings: dict,
) -> HistoryReader:
    """Returns a reader whose tables are fitted to training videos.

    Args:
        segments (`pd.DataFrame`): Their segment table.
        frame_labels (sequence of `np.ndarray`): What their frames show: see `VideoFrames`.
        fit_transitions (`Callable`): See `transition_model`.
        num_actions (`int`): A.
        settings (`dict`): `ReaderSettings` without `transitions`.
    """
    transitions = as_tables(fit_transitions(segments))
    reader = HistoryReader(ReaderSettings(transitions=transitions.sizes, **settings), num_actions)
    reader.transitions.load_state_dict(transitions.state_dict())
    counts = np.bincount(np.concatenate([labels[labels >= 0] for labels in frame_labels]), minlength=num_actions + 1)
    reader.log_prior.copy_(torch.from_numpy(np.log((counts + 1) / (counts + 1).sum())))
    for name, values in timing(segments, num_actions, settings["frame_rate"], reader.settings.num_phases).items():
        getattr(reader, name).copy_(torch.from_numpy(np.atleast_1d(values)))
    return reader


def timing(segments: pd.DataFrame, num_actions: int, frame_rate: float, num_phases: int) -> dict[str, np.ndarray]:
    """Returns durations of actions and gaps, as probabilities of leaving them in a frame.

    An action of mean length m frames is a chain of R phases, each left with probability R / m: its length is negative
    binomial, and few are much shorter than the mean. The mean of each action is shrunk toward that of all actions by
    two pseudo-segments. Overlapping segments have no gap.

    Args:
        segments (`pd.DataFrame`): Segment table of training videos.
        num_actions, frame_rate, num_phases: A, frames per second, and R.

    Returns:
        `dict`: `leave_phase` and `gap_after`, `(A,)`; `leave_gap` and `leave_start`.
    """
    lengths, gapped = np.zeros((num_actions, 2)), np.zeros((num_actions, 2))  # sums, and numbers of segments
    gaps, before_first = [], []
    for script in _scripts(segments):
        start, end = (frame_rate * script[name].to_numpy() for name in ("start_s", "end_s"))
        action = script["action"].to_numpy()
        np.add.at(lengths, action, np.stack([end - start, np.ones(len(script))], axis=1))
        gap = start[1:] - np.maximum.accumulate(end)[:-1]
        is_gap = gap > 1e-6
        np.add.at(gapped, action[:-1], np.stack([is_gap.astype(float), np.ones(len(gap))], axis=1))
        gaps += gap[is_gap].tolist()
        before_first.append(start[0])
    length, share = (_drawn_to_the_mean(*values.T) for values in (lengths, gapped))
    return {
        "leave_phase": np.minimum(num_phases / np.maximum(length, 1e-6), LONGEST_STEP),
        "gap_after": np.clip(share, 1e-6, 1 - 1e-6),
        "leave_gap": np.minimum(1 / max(float(np.mean(gaps)), 1e-6) if gaps else LONGEST_STEP, LONGEST_STEP),
        "leave_start": np.array(1 / (1 + max(float(np.mean(before_first)), 0.5))),
    }


def _drawn_to_the_mean(sums: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns the mean of each action, shrunk toward the mean over all actions."""
    mean = sums.sum() / max(numbers.sum(), 1)
    return (sums + PRIOR_SEGMENTS * mean) / (numbers + PRIOR_SEGMENTS)


def _scripts(segments: pd.DataFrame) -> Iterable[pd.DataFrame]:
    labelled = segments.loc[segments["action"] >= 0].sort_values(["start_s", "end_s"], kind="stable")
    return (script for _, script in labelled.groupby("video_id", sort=True))
