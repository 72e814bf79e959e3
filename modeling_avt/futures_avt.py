"""Anticipation beyond the next action: sequences of actions, and timelines of actions with their times.

A reader's hypotheses are continued by its transition model and durations, without evidence. Without a reader, the
steps of the model's roll-out are treated as independent of each other.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from .beam_avt import log_sum
from .rules_avt import TOP_K, Flag, Number, OrNone, WholeNumber
from .temporal_avt import TIME_SLACK_S
from .transitions_avt import LogLinearTransitions, NGramTransitions, state_after

NUM_ROOTS = 32  # hypotheses of the past that the likeliest sequences begin from
WIDTH = 16  # beginnings of sequences kept in the search for the likeliest, at least

NUM_ACTIONS = WholeNumber(least=1, most=1000)
NUM_SEQUENCES = WholeNumber(least=1, most=10_000)
HORIZON_S = Number(above=0, most=24 * 3600, unit="seconds")
DO_SAMPLE = Flag()


@dataclass(frozen=True)
class Question:
    """The question to answer: by default the next action alone; `num_actions` or `horizon_s` extend it.

    Args:
        top_k (`int`, *optional*, defaults to 5): Number of candidates for the next action.
        num_actions (`int`, *optional*): Z. Answer with sequences of the next Z actions instead.
        num_sequences (`int`, *optional*, defaults to 5): K, the number of sequences.
        do_sample (`bool`, *optional*, defaults to `False`): Sample the sequences from the predicted distribution, with
            torch's default generator (`torch.manual_seed`), instead of taking the likeliest.
        horizon_s (`float`, *optional*): Answer with a timeline of this many seconds instead.

    Raises:
        ValueError: If a number is out of range, or both `num_actions` and `horizon_s` are given.
    """

    top_k: int = 5
    num_actions: int | None = None
    num_sequences: int = 5
    do_sample: bool = False
    horizon_s: float | None = None

    def __post_init__(self):
        rules = {"top_k": TOP_K, "num_sequences": NUM_SEQUENCES, "do_sample": DO_SAMPLE}
        for name, rule in {**rules, "num_actions": OrNone(NUM_ACTIONS), "horizon_s": OrNone(HORIZON_S)}.items():
            object.__setattr__(self, name, rule(name, getattr(self, name)))
        if self.num_actions is not None and self.horizon_s is not None:
            raise ValueError("Give either num_actions, for sequences, or horizon_s, for a timeline.")

    def num_future_steps(self, config) -> int:
        """Returns how many steps a model without a reader has to roll out.

        Raises:
            ValueError: If the roll-out was not trained to answer the question, or the horizon ends before its first
                step.
        """
        trained = config.num_future_actions
        if self.horizon_s is None:
            if 1 < trained < (self.num_actions or 1):
                raise ValueError(
                    f"num_actions is {self.num_actions}: the model was trained on the next {trained} actions: give "
                    "that at most."
                )
            return self.num_actions or 1
        if trained > 1:
            raise ValueError(
                "horizon_s asks when each action happens, but the steps of this model are the next actions whenever "
                "they start: give num_actions, or fit a reader, which reads their durations."
            )
        ahead_s = self.horizon_s - config.tau_a
        if ahead_s <= 0:
            raise ValueError(
                f"horizon_s is {self.horizon_s:g}: without a reader, the model answers from tau_a = {config.tau_a:g} s "
                "on, so give more."
            )
        return max(1, math.ceil(ahead_s * config.frame_rate - TIME_SLACK_S))


def continued(
    transitions: NGramTransitions | LogLinearTransitions,
    last: np.ndarray,
    past: np.ndarray,
    log_weights: np.ndarray,
    num_actions: int,
    num_sequences: int,
    *,
    do_sample: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns sequences of the actions that come next: ids `(K, Z)` and log probabilities `(K,)`.

    The likeliest are found by a beam search, and come likeliest first; there are fewer if fewer are possible. Of
    more than 32 histories, the likeliest 32 are continued. The log probability of a sample is that of its actions, each
    given those before it and the history that it continues.

    Args:
        transitions (`NGramTransitions` or `LogLinearTransitions`): What comes after a history; `prepare` was called.
        last (`np.ndarray` of shape `(C, L)`), past (`np.ndarray` of bool, `(C, P)`): Text states of C histories.
        log_weights (`np.ndarray` of shape `(C,)`): Their log probabilities.
        num_actions (`int`), num_sequences (`int`): Z and K.
        do_sample (`bool`, *optional*, defaults to `False`): See `Question`.
    """
    roots = np.arange(len(log_weights))
    if not do_sample and len(roots) > NUM_ROOTS:
        roots = np.sort(np.argpartition(log_weights, -NUM_ROOTS)[-NUM_ROOTS:])
    last, past = last[roots], past[roots]
    joint = log_weights[roots, None] + transitions.log_probs(last, past)  # (C, A)
    joint -= log_sum(log_sum(joint))
    search = _sampled if do_sample else _likeliest
    return search(transitions, last, past, joint, num_actions, num_sequences)


def _sampled(transitions, last, past, joint: np.ndarray, num_actions: int, num_sequences: int):
    drawn = _draw(np.broadcast_to(joint.ravel(), (1, joint.size)), num_sequences)[0]
    rows, actions = np.divmod(drawn, joint.shape[1])
    log_probs, sequences = log_sum(joint.T)[actions], [actions]
    last, past = last[rows], past[rows]
    for _ in range(num_actions - 1):
        last, past = state_after(transitions, last, past, actions)
        after = transitions.log_probs(last, past)  # (K, A)
        actions = _draw(after, 1)[:, 0]
        log_probs = log_probs + after[np.arange(len(actions)), actions]
        sequences.append(actions)
    return np.stack(sequences, axis=1), log_probs


def _likeliest(transitions, last, past, joint: np.ndarray, num_actions: int, num_sequences: int):
    """Searches for the likeliest: each step keeps the likeliest beginnings, and all hypotheses behind them."""
    width = max(num_sequences, WIDTH)
    sequences = np.empty((1, 0), dtype=np.int64)
    places = np.zeros(len(joint), dtype=np.int64)  # which beginning each hypothesis is behind, ascending
    while True:
        firsts = np.searchsorted(places, np.arange(len(sequences)))
        scores = np.logaddexp.reduceat(joint, firsts, axis=0)  # (S, A)
        best = np.argsort(-scores, axis=None, kind="stable")[:width]
        parents, actions = np.divmod(best, joint.shape[1])
        sequences = np.concatenate([sequences[parents], actions[:, None]], axis=1)
        if sequences.shape[1] == num_actions:
            return sequences[:num_sequences], scores.ravel()[best][:num_sequences]
        counts = np.bincount(places)[parents]
        rows = np.concatenate([np.arange(first, first + n) for first, n in zip(firsts[parents], counts, strict=True)])
        places = np.repeat(np.arange(len(best)), counts)
        log_weights = joint[rows, actions[places]]
        last, past = state_after(transitions, last[rows], past[rows], actions[places])
        joint = log_weights[:, None] + transitions.log_probs(last, past)


def _draw(log_probs: np.ndarray, count: int) -> np.ndarray:
    """Returns ids drawn from each row, with replacement, `(N, count)`."""
    probs = torch.from_numpy(np.exp(log_probs - log_probs.max(1, keepdims=True)))
    ends = probs.cumsum(1)
    drawn = torch.rand(len(probs), count, dtype=torch.float64) * ends[:, -1:]
    # The first end beyond what was drawn: an id of probability 0 has the end of the one before it.
    return torch.searchsorted(ends, drawn, right=True).clamp_(max=probs.shape[1] - 1).numpy()


def of_steps(log_probs: np.ndarray, num_sequences: int, *, do_sample: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns sequences of independent steps, ids `(K, Z)` and log probabilities `(K,)`: the likeliest, or samples.

    Args:
        log_probs (`np.ndarray` of shape `(Z, A)`): Log probabilities of each step's action.
        num_sequences (`int`): K, the number of sequences.
        do_sample (`bool`, *optional*, defaults to `False`): See `Question`.
    """
    if do_sample:
        sequences = _draw(log_probs, num_sequences).T  # (K, Z)
        return sequences, np.take_along_axis(log_probs, sequences.T, axis=1).sum(0)
    sequences, totals = np.empty((1, 0), dtype=np.int64), np.zeros(1)
    for step in log_probs:  # the likeliest sequences begin with some of the likeliest beginnings
        scores = (totals[:, None] + step).ravel()
        best = np.argsort(-scores, kind="stable")[:num_sequences]
        parents, actions = np.divmod(best, len(step))
        sequences = np.concatenate([sequences[parents], actions[:, None]], axis=1)
        totals = scores[best]
    return sequences, totals


def spans(probabilities: np.ndarray, begins_s: float, step_s: float, ends_s: float) -> list[dict]:
    """Returns a timeline, runs of one likeliest action: `{"action", "starts_at_s", "ends_at_s", "score"}` each.

    Args:
        probabilities (`np.ndarray` of shape `(S, A)` or `(S, A + 1)`): Probabilities of what each step shows; class A,
            if there is one, is the background.
        begins_s (`float`): Start of the first step in seconds.
        step_s (`float`): Length of each step in seconds.
        ends_s (`float`): Latest end of the last step in seconds.

    Returns:
        `score` is the mean probability of the action over its steps.
    """
    best = probabilities.argmax(1)
    borders = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best)]
    found = []
    for first, end in pairwise(borders):
        action = int(best[first])
        times = {"starts_at_s": begins_s + first * step_s, "ends_at_s": min(begins_s + end * step_s, ends_s)}
        found.append({"action": action, **times, "score": float(probabilities[first:end, action].mean())})
    return found
