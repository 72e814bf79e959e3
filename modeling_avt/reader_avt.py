"""Text knowledge at inference: the history of actions is read off a video, uncertain as that is, and says what is next.

As in speech recognition, a frame-wise recognizer is the acoustic model, and a model of the order of actions the
language model. A beam of hypotheses about what was done so far is carried from frame to frame. The answer is the sum
over all of them, not what the best one says comes next.

Data flow: `frame_logits` of the model -> log posterior of each frame -> `HistoryReader.update` -> hypotheses ->
`next_action` -> `pool` with the model's own scores. Nothing but past frames is read, and no annotated history.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from .configuration_avt import ReaderSettings
from .rules_avt import SECONDS, SECONDS_AHEAD
from .temporal_avt import TIME_SLACK_S
from .transitions_avt import build_transitions

STARTS_PER_HYPOTHESIS = 4  # starts kept a frame, in beams, before equal ones are merged
HISTORY_LENGTH = 64  # actions that each hypothesis remembers with their times; what decides is remembered for ever
LONGEST_GAP = 1000  # moments without evidence that are walked through; longer ones change nothing more
LEAST_PROBABILITY = 1e-9  # of an answer: one without any hypothesis is unlikely, not impossible


class HistoryReader(nn.Module):
    """Reads frames one by one, and says what has been done and what comes next.

    ```python
    reader = model.reader.begin_video()
    for log_probs, time_s in frames:                # (A + 1,), the last one the background
        reader.update(log_probs, time_s)
    reader.next_action(tau_a=1.0)                   # (A,), log probabilities of what starts 1 s after the last frame
    reader.history()                                # what has been done
    ```

    A hypothesis is a text state, which is what the transition model reads of a history, and how far its last action is:
    in one of R phases, each left with a constant probability a frame, or in the gap after it. Hypotheses of one text
    state are merged, their weights summed, in log space.

    Buffers: `log_prior` float32 `(A + 1,)` of the classes of a frame; `leave_phase` `(A,)`, the probability to leave a
    phase of each action in a frame; `gap_after` `(A,)`, that a gap follows it and not an action; `leave_gap` and
    `leave_start` `(1,)`, the probability to leave a gap, and the time before the first action; and those of
    `transitions`. They are on the CPU or wherever the model is, and keep float32 where it is cast: the arithmetic is
    numpy's, in float64, on the CPU.

    Args:
        settings (`ReaderSettings`): See there.
        num_actions (`int`): A.
    """

    log_prior: torch.Tensor
    leave_phase: torch.Tensor
    gap_after: torch.Tensor
    leave_gap: torch.Tensor
    leave_start: torch.Tensor

    def __init__(self, settings: ReaderSettings, num_actions: int):
        super().__init__()
        self.settings, self.num_actions = settings, num_actions
        self.transitions = build_transitions(settings.transitions, num_actions)
        self.register_buffer("log_prior", torch.full((num_actions + 1,), -math.log(num_actions + 1)))
        self.register_buffer("leave_phase", torch.full((num_actions,), 0.5))
        self.register_buffer("gap_after", torch.full((num_actions,), 0.5))
        self.register_buffer("leave_gap", torch.full((1,), 0.5))
        self.register_buffer("leave_start", torch.full((1,), 0.5))
        self._midway = False
        self._reading: _Reading | None = None  # of a video that has begun

    def begin_video(self, midway: bool = False) -> "HistoryReader":
        """Returns a reader of another video that shares this one's tables.

        Args:
            midway (`bool`, *optional*): The first frame is not the video's: what was done before it is unknown.
        """
        reader = copy.copy(self)
        reader._midway, reader._reading = midway, None
        return reader

    def fork(self) -> "HistoryReader":
        """Returns an independent copy of the reader at its current frame."""
        reader = copy.copy(self)
        reader._reading = copy.copy(self._reading)  # beams are never changed, only replaced
        return reader

    def reset(self):
        """Forgets the video: the next frame begins another."""
        self._reading = None

    @property
    def num_frames(self) -> int:
        """Moments of the video read so far, those without a frame included."""
        return 0 if self._reading is None else self._reading.num_frames

    @property
    def log_likelihood(self) -> float:
        """Log probability of all frames so far, up to the weight of their evidence."""
        return 0.0 if self._reading is None else self._reading.log_likelihood

    def update(self, frame_log_probs, time_s: float):
        """Reads the next frame.

        Args:
            frame_log_probs (`np.ndarray` or `torch.Tensor` of shape `(A + 1,)`): Log posterior of what the frame shows:
                each action, and last the background; up to a constant.
            time_s (`float`): When the frame is shown. The first frame begins the video; later ones come `1 /
                frame_rate` seconds apart. Where frames are missing, time passes without evidence.

        Raises:
            ValueError: for another shape, for scores or a time that are not finite, and for a time that does not go
                forward. The reader is then as it was.
        """
        frame = self._checked(frame_log_probs, (self.num_actions + 1,))
        reading, time_s = self._reading, SECONDS("time_s", time_s)
        steps = 1 if reading is None else self._steps_to(time_s, reading)
        if reading is None:
            reading = _Reading(_Tables(self), float(time_s), self._midway)
        self._reading = reading
        reading.update(frame, steps)

    def read(self, frame_log_probs, times_s, tau_a: float | None = None) -> torch.Tensor:
        """Begins a new video, reads all of its frames, and returns what comes next after each of them.

        Args:
            frame_log_probs (`np.ndarray` or `torch.Tensor` of shape `(T, A + 1)`), times_s (sequence of T `float`): As
                in `update`.
            tau_a (`float`, *optional*): As in `next_action`. Default: one frame.

        Returns:
            `torch.Tensor` of shape `(T, A)`: Log probabilities, float64. The reader has then read the last frame.
        """
        frames = self._checked(frame_log_probs, (len(times_s), self.num_actions + 1))
        self.reset()
        answers = []
        for frame, time_s in zip(frames, times_s, strict=True):
            self.update(frame, time_s)
            answers.append(self.next_action(tau_a))
        return torch.stack(answers) if answers else torch.empty(0, self.num_actions, dtype=torch.float64)

    def answers_at(
        self, moments_s: Sequence[float], frame_log_probs, times_s, tau_a: float
    ) -> list[tuple[torch.Tensor, list[dict]]]:
        """Begins a new video, reads it, and returns at each moment what comes next and what has been done.

        Args:
            moments_s (sequence of M `float`): In order of time, not before the first frame. Of each, the frames at or
                before it are read.
            frame_log_probs (`np.ndarray` or `torch.Tensor` of shape `(T, A + 1)`), times_s (sequence of T `float`): As
                in `update`.
            tau_a (`float`): As in `next_action`.

        Returns:
            M pairs of `next_action` and `history`.
        """
        frames = self._checked(frame_log_probs, (len(times_s), self.num_actions + 1))
        self.reset()
        answers, position = [], 0
        for moment_s in moments_s:
            while position < len(frames) and times_s[position] <= moment_s + TIME_SLACK_S:
                self.update(frames[position], times_s[position])
                position += 1
            answers.append((self.next_action(tau_a, moment_s), self.history()))
        return answers

    def next_action(self, tau_a: float | None = None, at_s: float | None = None) -> torch.Tensor:
        """Returns the log probability of each action to start `tau_a` seconds later, given that one does then.

        Args:
            tau_a (`float`, *optional*): Seconds; rounded to frames, at least one. Default: one frame.
            at_s (`float`, *optional*): From when it counts, not before the last frame. Default: the last frame's time.

        Returns:
            `torch.Tensor` of shape `(A,)`: float64.

        Raises:
            ValueError: before the first frame, and for moments that are not finite or lie before the last frame.
        """
        reading = self._begun()
        tau_a = 1 / self.settings.frame_rate if tau_a is None else SECONDS_AHEAD("tau_a", tau_a)
        at_s = reading.time_s if at_s is None else SECONDS("at_s", at_s)
        if at_s < reading.time_s - TIME_SLACK_S:
            raise ValueError(f"at_s is {at_s}: the last frame is of {reading.time_s} s, give a later moment.")
        # Beyond the longest gap nothing changes; a time close to the largest float would not even be countable.
        frames_ahead = (at_s + tau_a - reading.time_s) * self.settings.frame_rate
        steps = max(1, round(min(frames_ahead, LONGEST_GAP + 1)))
        return _log_answer(reading.starts(steps))

    def upcoming_action(self) -> torch.Tensor:
        """Returns the log probability of each action to be the next one, whenever it starts: float64 `(A,)`."""
        return _log_answer(self._begun().upcoming())

    def expected_in_s(self, at_s: float | None = None) -> float:
        """Returns in how many seconds the next action is expected to start, whichever it is: the mean over hypotheses.

        Args:
            at_s (`float`, *optional*): From when it counts. Default: the last frame's time. Never below 0.
        """
        reading = self._begun()
        waited_s = 0.0 if at_s is None else SECONDS("at_s", at_s) - reading.time_s
        return max(reading.mean_frames_to_start() / self.settings.frame_rate - waited_s, 0.0)

    def history(self) -> list[dict]:
        """Returns what has been done so far, oldest first: `{"action", "start_s", "probability"}` each.

        They are the actions of the likeliest hypothesis, 64 at most, the newest. `action` is an id, `start_s` when it
        began, `probability` the share of all hypotheses in which that action was the last one begun half-way from there
        to the next.
        """
        return [] if self._reading is None else self._reading.history()

    def _begun(self) -> "_Reading":
        if self._reading is None:
            raise ValueError("The reader has read no frame: update it with the first one.")
        return self._reading

    def _steps_to(self, time_s: float, reading: "_Reading") -> int:
        steps = round((time_s - reading.time_s) * self.settings.frame_rate)
        if steps < 1:
            raise ValueError(
                f"time_s is {time_s}, but the reader is at {reading.time_s} s and reads {self.settings.frame_rate:g} "
                "frames/s: give frames in order, and reset() before another video."
            )
        return steps

    def _checked(self, log_probs, shape: tuple[int, ...]) -> np.ndarray:
        """Returns log probabilities as float64."""
        if isinstance(log_probs, torch.Tensor):
            log_probs = log_probs.detach().double().cpu().numpy()
        array = np.asarray(log_probs, dtype=np.float64)
        if array.shape != shape:
            raise ValueError(
                f"frame_log_probs has the shape {array.shape}: this reader knows {self.num_actions} actions and takes "
                f"{shape}, the background last."
            )
        if not np.isfinite(array).all():
            raise ValueError("frame_log_probs is not finite: no answer could be trusted from there on.")
        return array

    def _apply(self, fn, recurse=True):
        """Moves tables with the model, and leaves their precision as it is where the model is cast."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, recurse)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_reading": None}  # a copied or pickled model does not carry a video


def pool(model_logits: torch.Tensor, reader_log_probs: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Returns the log-linear pool of a model's and a reader's answers, log probabilities, float32 `(..., A)`.

    Args:
        model_logits (`torch.Tensor` of shape `(..., A)`): Scores before softmax.
        reader_log_probs (`torch.Tensor` of shape `(..., A)`): Of `HistoryReader.next_action`.
        weights (sequence of `float`): The model's and the reader's.
    """
    of_model, of_reader = weights
    pooled = of_model * model_logits.double().log_softmax(-1) + of_reader * reader_log_probs.double()
    return pooled.log_softmax(-1).float()


def _log_answer(probabilities: np.ndarray) -> torch.Tensor:
    floored = np.maximum(probabilities, LEAST_PROBABILITY)
    return torch.from_numpy(np.log(floored / floored.sum()))


class _Tables:
    """A reader's buffers as numpy arrays, ready for the arithmetic of one video."""

    def __init__(self, reader: HistoryReader):
        settings, num_actions = reader.settings, reader.num_actions
        self.settings, self.num_actions = settings, num_actions
        self.transitions = reader.transitions
        self.transitions.prepare()
        self.num_followers = min(settings.followers or num_actions, num_actions)
        self.log_prior = _float64(reader.log_prior)
        self.log_prior -= _log_sum(self.log_prior)
        # (A + 1, 1 + R): the gap after each action, then its phases; last the time before the first action
        leave = np.repeat(np.append(_float64(reader.leave_phase), 0.5)[:, None], 1 + settings.num_phases, axis=1)
        leave[:, 0] = np.append(np.full(num_actions, _float64(reader.leave_gap)[0]), _float64(reader.leave_start)[0])
        gap_after = np.append(_float64(reader.gap_after), 0.5)
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
class _Beam:
    """C hypotheses, and of each what the arithmetic needs."""

    log_weights: np.ndarray  # (C, 1 + R): in the gap after its last action, and in each phase of it
    last: np.ndarray  # (C, L): the last actions, A where there are none
    past: np.ndarray  # bool (C, P): which parts happened
    set_keys: np.ndarray  # uint64 (C,): a hash of `past`
    followers: np.ndarray  # int32 (C, n)
    log_probs: np.ndarray  # (C, n): of the followers, of sum 1 at most
    actions: np.ndarray  # int32 (C, H): the likeliest path here, newest last; A before its first
    starts: np.ndarray  # int64 (C, H): when each of them began, in frames

    def select(self, rows: np.ndarray) -> "_Beam":
        return _Beam(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def newest(self) -> np.ndarray:
        return self.last[:, -1]


def _nothing_done(tables: _Tables) -> _Beam:
    """Returns the one hypothesis that no action has begun."""
    length, parts = max(1, tables.transitions.length), tables.transitions.num_parts
    last = np.full((1, length), tables.num_actions, dtype=np.int64)
    past = np.zeros((1, parts), dtype=bool)
    log_weights = np.full((1, 1 + tables.settings.num_phases), -np.inf)
    log_weights[0, 0] = 0.0  # a gap
    path = np.full((1, HISTORY_LENGTH), tables.num_actions, dtype=np.int32)
    keys = np.zeros(1, dtype=np.uint64)
    starts = np.zeros(path.shape, dtype=np.int64)
    return _Beam(log_weights, last, past, keys, *tables.followers(last, past), path, starts)


def _midway(tables: _Tables) -> _Beam:
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


def _with_parts(tables: _Tables, set_keys: np.ndarray, past: np.ndarray, actions: np.ndarray):
    """Returns set keys `(N,)` and sets `(N, P)` with the parts of an action each added."""
    parts, past = tables.transitions.parts_of(actions), past.copy()  # (N, K)
    numbers = _random_numbers(0, tables.transitions.num_parts)[parts]
    numbers[np.take_along_axis(past, parts, axis=1)] = 0  # they are in the set already
    np.put_along_axis(past, parts, True, axis=1)
    return set_keys ^ np.bitwise_xor.reduce(numbers, axis=1), past


class _Reading:
    """What a reader knows of one video: its beam, and where it is in time."""

    def __init__(self, tables: _Tables, start_s: float, midway: bool):
        self.tables, self.start_s = tables, start_s
        self.num_frames, self.log_likelihood = 0, 0.0
        self.beam = _midway(tables) if midway else _nothing_done(tables)

    @property
    def time_s(self) -> float:
        """Of the last moment read."""
        return self.start_s + (self.num_frames - 1) / self.tables.settings.frame_rate

    def update(self, frame: np.ndarray, steps: int):
        """Takes `steps` moments, of which the last shows a frame."""
        beam, nothing = self.beam, np.zeros_like(frame)
        for step in range(max(1, steps - LONGEST_GAP), steps):
            beam, _ = self._moment_later(beam, nothing, self.num_frames + step - 1)
        log_posterior = frame - _log_sum(frame)
        evidence = self.tables.settings.evidence_weight * (log_posterior - self.tables.log_prior)
        beam, log_likelihood = self._moment_later(beam, evidence, self.num_frames + steps - 1)
        self.beam, self.num_frames = beam, self.num_frames + steps
        self.log_likelihood += log_likelihood

    def starts(self, steps: int) -> np.ndarray:
        """Returns the distribution of the action that starts `steps` moments ahead, given that one does, `(A,)`."""
        beam, nothing = self.beam, np.zeros(self.tables.num_actions + 1)
        for step in range(max(1, steps - LONGEST_GAP), steps):
            beam, _ = self._moment_later(beam, nothing, self.num_frames + step - 1)
        _, starting = self._step(beam)
        return self._per_action(beam, starting)

    def upcoming(self) -> np.ndarray:
        """Returns the distribution of the action that starts next, whenever it does, `(A,)`."""
        return self._per_action(self.beam, _log_sum(self.beam.log_weights))

    def mean_frames_to_start(self) -> float:
        return float((np.exp(self.beam.log_weights) * self.tables.frames_to_start[self.beam.newest]).sum())

    def history(self) -> list[dict]:
        beam, num_actions = self.beam, self.tables.num_actions
        weights = np.exp(_log_sum(beam.log_weights))
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

    def _per_action(self, beam: _Beam, log_shares: np.ndarray) -> np.ndarray:
        """Returns the probability of each action, where hypotheses have these log shares `(C,)`: `(A,)`."""
        logs = log_shares[:, None] + beam.log_probs
        shares = np.exp(logs - logs.max())
        sums = np.bincount(beam.followers.ravel(), shares.ravel(), minlength=self.tables.num_actions)
        if self.tables.num_followers < self.tables.num_actions:
            # What hypotheses expect beside their likeliest followers goes to actions as frequent as they are in frames.
            rest = np.exp(log_shares - logs.max()).sum() - shares.sum()
            sums += max(rest, 0.0) * np.exp(self.tables.log_prior[:-1] - _log_sum(self.tables.log_prior[:-1]))
        return sums / sums.sum()

    def _step(self, beam: _Beam) -> tuple[np.ndarray, np.ndarray]:
        """Returns log weights one moment later: without a new action `(C, 1 + R)`, and with one `(C,)`."""
        tables, newest = self.tables, beam.newest
        leaving = beam.log_weights + tables.leave[newest]
        moved = beam.log_weights + tables.stay[newest]
        if moved.shape[1] > 2:
            moved[:, 2:] = np.logaddexp(moved[:, 2:], leaving[:, 1:-1])
        moved[:, 0] = np.logaddexp(moved[:, 0], leaving[:, -1] + tables.gap[newest])
        return moved, np.logaddexp(leaving[:, 0], leaving[:, -1] + tables.no_gap[newest])

    def _moment_later(self, beam: _Beam, evidence: np.ndarray, moment: int) -> tuple[_Beam, float]:
        """Returns the beam after a moment that gives evidence `(A + 1,)`, and the moment's log likelihood."""
        moved, starting = self._step(beam)
        members = self._members(beam, starting)
        states = self._merge(beam, moved, members)
        newest = np.where(members.begins, members.actions, beam.newest[members.sources])[states.first]  # (G,)
        states.log_weights[:, 0] += evidence[-1]
        states.log_weights[:, 1:] += evidence[newest][:, None]
        totals = _log_sum(states.log_weights)
        kept = np.arange(len(totals))
        if len(totals) > self.tables.settings.beam:
            kept = np.sort(np.argpartition(totals, -self.tables.settings.beam)[-self.tables.settings.beam :])
        log_likelihood = _log_sum(totals[kept])
        later = self._hypotheses(beam, members, states.first[kept], states.heaviest[kept], moment)
        later.log_weights = states.log_weights[kept] - log_likelihood
        return later, float(log_likelihood)

    def _members(self, beam: _Beam, starting: np.ndarray) -> "_Members":
        """Returns what may be a moment later: the C hypotheses, which go on, and the N likeliest starts of actions."""
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

    def _merge(self, beam: _Beam, moved: np.ndarray, members: "_Members") -> "_States":
        """Merges members of one text state; those that go on have the log weights `moved (C, 1 + R)`."""
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
        by_weight = np.lexsort((-np.concatenate([_log_sum(moved), members.starts]), places))
        heaviest = by_weight[np.searchsorted(places[by_weight], np.arange(len(first)))]
        return _States(first, heaviest, log_weights)

    def _hypotheses(
        self, beam: _Beam, members: "_Members", first: np.ndarray, heaviest: np.ndarray, moment: int
    ) -> _Beam:
        """Returns hypotheses that are these members, on the paths of the heaviest of each; weights are to be set."""
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

    def _text_states(self, beam: _Beam, sources: np.ndarray, actions: np.ndarray):
        """Returns the text states where hypotheses start actions: set keys `(N,)`, last `(N, L)`, past `(N, P)`."""
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
    heaviest: np.ndarray  # (G,): the member whose path stands for all
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


def _log_sum(logs: np.ndarray) -> np.ndarray:
    """Returns the log of the sum of exponentials over the last axis."""
    highest = logs.max(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(logs - highest).sum(-1)) + highest[..., 0]


def _float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)
