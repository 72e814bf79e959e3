"""Beam search over hypotheses about what a video has shown: the arithmetic of a `HistoryReader`.

A hypothesis is a text state (the part of a history that the transition model reads) and the progress of its last
action. `Reading.update` moves all of them by one frame: each continues or starts an action, equal text states are
merged and their weights summed, and the likeliest are kept.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch

from .configuration_avt import ReaderSettings
from .transitions_avt import LogLinearTransitions, NGramTransitions

STARTS_PER_HYPOTHESIS = 4  # starts kept a frame, in beams, before equal ones are merged
HISTORY_LENGTH = 64  # actions stored with their times for each hypothesis; text states are kept without limit
LONGEST_GAP = 1000  # moments without evidence that are simulated; the state has converged by then


class Tables:
    """A reader's buffers as numpy arrays, ready for the arithmetic of one video.

    Args:
        settings (`ReaderSettings`): The reader's settings.
        transitions (`NGramTransitions` or `LogLinearTransitions`): The reader's transition model.
        buffers (`dict[str, torch.Tensor]`): The reader's own buffers by name: see `HistoryReader`.
    """

    def __init__(
        self,
        settings: ReaderSettings,
        transitions: NGramTransitions | LogLinearTransitions,
        buffers: dict[str, torch.Tensor],
    ):
        of = {name: _float64(buffer) for name, buffer in buffers.items()}
        num_actions = transitions.num_actions
        self.settings, self.num_actions = settings, num_actions
        self.transitions = transitions
        self.transitions.prepare()
        self.num_followers = min(settings.followers or num_actions, num_actions)
        self.log_prior = of["log_prior"]
        self.log_prior -= log_sum(self.log_prior)
        # (A + 1, 1 + R): the gap after each action, then its phases; last the time before the first action
        leave = np.repeat(np.append(of["leave_phase"], 0.5)[:, None], 1 + settings.num_phases, axis=1)
        leave[:, 0] = np.append(np.full(num_actions, of["leave_gap"][0]), of["leave_start"][0])
        gap_after = np.append(of["gap_after"], 0.5)
        with np.errstate(divide="ignore"):  # what cannot happen has the log probability -inf
            self.leave, self.stay = np.log(leave), np.log1p(-leave)
            self.gap, self.no_gap = np.log(gap_after), np.log1p(-gap_after)
        # Frames until the next start, from the gap and from each phase, (A + 1, 1 + R)
        in_gap, phases_left = 1 / leave[:, :1], np.arange(settings.num_phases, 0, -1)
        in_phases = phases_left / leave[:, 1:] + gap_after[:, None] * in_gap
        self.frames_to_start = np.concatenate([in_gap, in_phases], axis=1)

    def followers(self, last: np.ndarray, past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the n likeliest next actions of text states and their log probabilities, `(N, n)` each."""
        log_probs = self.transitions.log_probs(last, past)
        count = self.num_followers
        if count == self.num_actions:
            return np.broadcast_to(np.arange(count, dtype=np.int32), log_probs.shape), log_probs
        actions = np.sort(np.argpartition(log_probs, -count, axis=1)[:, -count:], axis=1).astype(np.int32)
        return actions, np.take_along_axis(log_probs, actions, axis=1)


@dataclass
class Beam:
    """C hypotheses as parallel arrays, one row each."""

    log_weights: np.ndarray  # (C, 1 + R): in the gap after its last action, and in each phase of it
    last: np.ndarray  # (C, L): the last actions, A where there are none
    past: np.ndarray  # bool (C, P): which parts happened
    set_keys: np.ndarray  # uint64 (C,): a hash of `past`
    followers: np.ndarray  # int32 (C, n)
    log_probs: np.ndarray  # (C, n): of the followers, of sum 1 at most
    actions: np.ndarray  # int32 (C, H): the likeliest path here, newest last; A before its first
    starts: np.ndarray  # int64 (C, H): when each of them began, in frames

    def select(self, rows: np.ndarray) -> "Beam":
        return Beam(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def newest(self) -> np.ndarray:
        return self.last[:, -1]


def _nothing_done(tables: Tables) -> Beam:
    """Returns a beam with the single hypothesis that no action has begun."""
    length, parts = max(1, tables.transitions.length), tables.transitions.num_parts
    last = np.full((1, length), tables.num_actions, dtype=np.int64)
    past = np.zeros((1, parts), dtype=bool)
    log_weights = np.full((1, 1 + tables.settings.num_phases), -np.inf)
    log_weights[0, 0] = 0.0  # a gap
    path = np.full((1, HISTORY_LENGTH), tables.num_actions, dtype=np.int32)
    keys = np.zeros(1, dtype=np.uint64)
    starts = np.zeros(path.shape, dtype=np.int64)
    return Beam(log_weights, last, past, keys, *tables.followers(last, past), path, starts)


def _midway(tables: Tables) -> Beam:
    """Returns the hypotheses that nothing, or a single action, is known to have begun, as likely as frames of each."""
    num_actions, num_phases = tables.num_actions, tables.settings.num_phases
    beam = _nothing_done(tables).select(np.zeros(num_actions + 1, dtype=np.int64))
    actions = np.arange(num_actions)
    beam.last[1:, -1] = actions
    beam.set_keys[1:], beam.past[1:] = _with_parts(tables, beam.set_keys[1:], beam.past[1:], actions)
    beam.followers, beam.log_probs = tables.followers(beam.last, beam.past)
    beam.log_weights[:, 0] = tables.log_prior[-1] - math.log(num_actions + 1)
    beam.log_weights[1:, 1:] = (tables.log_prior[:-1] - math.log(num_phases))[:, None]
    return beam


def _with_parts(tables: Tables, set_keys: np.ndarray, past: np.ndarray, actions: np.ndarray):
    """Returns set keys `(N,)` and sets `(N, P)` with the parts of an action each added."""
    parts, past = tables.transitions.parts_of(actions), past.copy()  # (N, K)
    numbers = _random_numbers(0, tables.transitions.num_parts)[parts]
    numbers[np.take_along_axis(past, parts, axis=1)] = 0  # they are in the set already
    np.put_along_axis(past, parts, True, axis=1)
    return set_keys ^ np.bitwise_xor.reduce(numbers, axis=1), past


class Reading:
    """The state of a reader in one video: its beam, and the current time."""

    def __init__(self, tables: Tables, start_s: float, midway: bool):
        self.tables, self.start_s = tables, start_s
        self.num_frames, self.log_likelihood = 0, 0.0
        self.beam = _midway(tables) if midway else _nothing_done(tables)

    @property
    def time_s(self) -> float:
        """Of the last moment read."""
        return self.start_s + (self.num_frames - 1) / self.tables.settings.frame_rate

    def update(self, frame: np.ndarray, steps: int):
        """Advances by `steps` moments, of which only the last has a frame."""
        beam = self._ahead(steps - 1)
        log_posterior = frame - log_sum(frame)
        # A posterior over the prior is proportional to the likelihood, as in hybrid speech recognition.
        evidence = self.tables.settings.evidence_weight * (log_posterior - self.tables.log_prior)
        beam, log_likelihood = self._moment_later(beam, evidence, self.num_frames + steps - 1)
        self.beam, self.num_frames = beam, self.num_frames + steps
        self.log_likelihood += log_likelihood

    def starts(self, steps: int) -> np.ndarray:
        """Returns the distribution of the action that starts `steps` moments ahead, given that one does, `(A,)`."""
        beam = self._ahead(steps - 1)
        _, starting = self._step(beam)
        return self._per_action(beam, starting)

    def upcoming(self) -> np.ndarray:
        """Returns the distribution of the action that starts next, whenever it does, `(A,)`."""
        return self._per_action(self.beam, log_sum(self.beam.log_weights))

    def mean_frames_to_start(self) -> float:
        return float((np.exp(self.beam.log_weights) * self.tables.frames_to_start[self.beam.newest]).sum())

    def history(self) -> list[dict]:
        beam, num_actions = self.beam, self.tables.num_actions
        weights = np.exp(log_sum(beam.log_weights))
        best = int(weights.argmax())
        known = beam.actions[best] < num_actions
        actions, starts = beam.actions[best][known].tolist(), beam.starts[best][known].tolist()
        rate, history = self.tables.settings.frame_rate, []
        for action, start, end in zip(actions, starts, [*starts, self.num_frames][1:], strict=True):
            # Of each hypothesis, the last action begun by the middle of this one.
            middle = (start + end - 1) / 2
            begun = (beam.actions < num_actions) & (beam.starts <= middle)
            newest = begun.shape[1] - 1 - begun[:, ::-1].argmax(1)
            agrees = begun.any(1) & (beam.actions[np.arange(len(newest)), newest] == action)
            probability = float(weights[agrees].sum())
            history.append({"action": action, "start_s": self.start_s + start / rate, "probability": probability})
        return history

    def frames(self, first: int, count: int) -> np.ndarray:
        """Returns the probabilities of what moments show from `first` ahead on, the background last, `(count, A + 1)`.

        Moment 0 is that of the last frame.
        """
        beam, shown = self._ahead(first), []
        for moment in range(first, first + count):
            if moment > first:
                beam = self._without_evidence(beam, moment - 1)
            shares = np.exp(beam.log_weights)
            in_actions = np.bincount(beam.newest, shares[:, 1:].sum(1), minlength=self.tables.num_actions + 1)
            in_actions[-1] = shares[:, 0].sum()
            shown.append(in_actions)
        return np.stack(shown)

    def _ahead(self, steps: int) -> Beam:
        """Returns the beam some moments ahead, without evidence."""
        beam = self.beam
        for step in range(max(0, steps - LONGEST_GAP), steps):
            beam = self._without_evidence(beam, step)
        return beam

    def _without_evidence(self, beam: Beam, moment: int) -> Beam:
        """Returns the beam after one more moment; `moment` is how many are ahead of the last frame before it."""
        nothing = np.zeros(self.tables.num_actions + 1)
        return self._moment_later(beam, nothing, self.num_frames + moment)[0]

    def _per_action(self, beam: Beam, log_shares: np.ndarray) -> np.ndarray:
        """Returns the probability of each action, if hypotheses have these log shares `(C,)`: `(A,)`."""
        logs = log_shares[:, None] + beam.log_probs
        shares = np.exp(logs - logs.max())
        sums = np.bincount(beam.followers.ravel(), shares.ravel(), minlength=self.tables.num_actions)
        if self.tables.num_followers < self.tables.num_actions:
            # The probability outside each hypothesis's likeliest followers is spread in proportion to how often frames
            # show each action.
            rest = np.exp(log_shares - logs.max()).sum() - shares.sum()
            sums += max(rest, 0.0) * np.exp(self.tables.log_prior[:-1] - log_sum(self.tables.log_prior[:-1]))
        return sums / sums.sum()

    def _step(self, beam: Beam) -> tuple[np.ndarray, np.ndarray]:
        """Returns log weights one moment later: without a new action `(C, 1 + R)`, and with one `(C,)`."""
        tables, newest = self.tables, beam.newest
        leaving = beam.log_weights + tables.leave[newest]
        moved = beam.log_weights + tables.stay[newest]
        if moved.shape[1] > 2:
            moved[:, 2:] = np.logaddexp(moved[:, 2:], leaving[:, 1:-1])
        moved[:, 0] = np.logaddexp(moved[:, 0], leaving[:, -1] + tables.gap[newest])
        return moved, np.logaddexp(leaving[:, 0], leaving[:, -1] + tables.no_gap[newest])

    def _moment_later(self, beam: Beam, evidence: np.ndarray, moment: int) -> tuple[Beam, float]:
        """Returns the beam after a moment that gives evidence `(A + 1,)`, and the moment's log likelihood."""
        moved, starting = self._step(beam)
        members = self._members(beam, starting)
        states = self._merge(beam, moved, members)
        newest = np.where(members.begins, members.actions, beam.newest[members.sources])[states.first]  # (G,)
        states.log_weights[:, 0] += evidence[-1]
        states.log_weights[:, 1:] += evidence[newest][:, None]
        totals = log_sum(states.log_weights)
        kept = np.arange(len(totals))
        if len(totals) > self.tables.settings.beam:
            # Sorted, since `argpartition` returns them in no particular order.
            kept = np.sort(np.argpartition(totals, -self.tables.settings.beam)[-self.tables.settings.beam :])
        log_likelihood = log_sum(totals[kept])
        later = self._hypotheses(beam, members, states.first[kept], states.heaviest[kept], moment)
        # Normalized at each moment: weights of a long video would underflow otherwise.
        later.log_weights = states.log_weights[kept] - log_likelihood
        return later, float(log_likelihood)

    def _members(self, beam: Beam, starting: np.ndarray) -> "_Members":
        """Returns what may be a moment later: the C hypotheses, continued, and the N likeliest starts of actions."""
        settings, count = self.tables.settings, len(beam.last)
        logs = (starting[:, None] + beam.log_probs).ravel()
        kept = np.flatnonzero(logs > math.log(settings.min_start) if settings.min_start else logs > -np.inf)
        limit = STARTS_PER_HYPOTHESIS * settings.beam
        if len(kept) > limit:
            kept = np.sort(kept[np.argpartition(logs[kept], -limit)[-limit:]])
        rows, ranks = np.divmod(kept, beam.log_probs.shape[1])
        actions = np.concatenate([np.zeros(count, dtype=np.int64), beam.followers[rows, ranks]])
        sources = np.concatenate([np.arange(count), rows])
        return _Members(sources, actions, np.arange(len(sources)) >= count, logs[kept])

    def _merge(self, beam: Beam, moved: np.ndarray, members: "_Members") -> "_States":
        """Merges members of one text state; those that continue have the log weights `moved (C, 1 + R)`."""
        count = len(moved)
        set_keys, last, _ = self._text_states(beam, members.sources[count:], members.actions[count:])
        keys = np.concatenate([_keys(beam.set_keys, beam.last), _keys(set_keys, last)])
        _, first, places = np.unique(keys, return_index=True, return_inverse=True)
        log_weights = np.full((len(first), moved.shape[1]), -np.inf)
        log_weights[places[:count]] = moved
        order = np.argsort(places[count:], kind="stable")
        if len(order):
            started, begins = np.unique(places[count:][order], return_index=True)
            sums = np.logaddexp.reduceat(members.starts[order], begins)
            log_weights[started, 1] = np.logaddexp(log_weights[started, 1], sums)
        by_weight = np.lexsort((-np.concatenate([log_sum(moved), members.starts]), places))
        heaviest = by_weight[np.searchsorted(places[by_weight], np.arange(len(first)))]
        return _States(first, heaviest, log_weights)

    def _hypotheses(
        self, beam: Beam, members: "_Members", first: np.ndarray, heaviest: np.ndarray, moment: int
    ) -> Beam:
        """Returns one hypothesis per group of members, on the path of its heaviest member; the caller sets the
        weights."""
        later, new = beam.select(members.sources[first]), members.begins[first]
        if new.any():
            states = self._text_states(beam, members.sources[first[new]], members.actions[first[new]])
            later.set_keys[new], later.last[new], later.past[new] = states
            later.followers[new], later.log_probs[new] = self.tables.followers(*states[1:])
        sources, new = members.sources[heaviest], members.begins[heaviest]
        later.actions, later.starts = beam.actions[sources], beam.starts[sources]
        for path, newest in ((later.actions, members.actions[heaviest[new]]), (later.starts, moment)):
            path[new] = np.roll(path[new], -1, axis=1)
            path[new, -1] = newest
        return later

    def _text_states(self, beam: Beam, sources: np.ndarray, actions: np.ndarray):
        """Returns the text states after hypotheses start actions: set keys `(N,)`, last `(N, L)`, past `(N, P)`."""
        last = np.concatenate([beam.last[sources, 1:], actions[:, None]], axis=1)
        set_keys, past = _with_parts(self.tables, beam.set_keys[sources], beam.past[sources], actions)
        return set_keys, last, past


@dataclass
class _Members:
    """Candidates for the next hypotheses, M = C + N: the current ones, then those that start an action."""

    sources: np.ndarray  # (M,): the hypothesis that each comes from
    actions: np.ndarray  # (M,): the action that it starts; 0 if none
    begins: np.ndarray  # bool (M,): whether it starts one
    starts: np.ndarray  # (N,): the log weight of each start


@dataclass
class _States:
    """G text states, and the members that are in each."""

    first: np.ndarray  # (G,): the first member: the current hypothesis, if there is one
    heaviest: np.ndarray  # (G,): the member whose path represents all
    log_weights: np.ndarray  # (G, 1 + R)


def _keys(set_keys: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Returns a hash of each text state, uint64 `(N,)`: the same for the same last actions and the same set."""
    keys = set_keys.copy()
    for position, actions in enumerate(last.T, 1):
        keys ^= _random_numbers(position, int(actions.max()) + 1 if len(actions) else 0)[actions]
    return keys


@lru_cache(maxsize=64)
def _random_numbers(position: int, count: int) -> np.ndarray:
    """Returns 64 random bits for each action, or part of one, at a position of the text state (0: in its set)."""
    size = 1 << max(0, count - 1).bit_length()  # few sizes: each is the beginning of the larger ones
    return np.random.default_rng(position).integers(0, 2**64, size=size, dtype=np.uint64)


def log_sum(logs: np.ndarray) -> np.ndarray:
    """Returns the log of the sum of exponentials over the last axis."""
    highest = logs.max(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(logs - highest).sum(-1)) + highest[..., 0]


def _float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)
