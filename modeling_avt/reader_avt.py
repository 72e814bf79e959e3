"""Text knowledge at inference: anticipation from the history of actions recognized, with uncertainty, in a video.

As in speech recognition, a frame-wise recognizer is the acoustic model, and a model of the order of actions the
language model. A beam of hypotheses about the actions so far is updated with each frame. The answer is the sum over all
hypotheses, not the prediction of the best one.

Data flow: `frame_logits` of the model -> log posterior of each frame -> `HistoryReader.update` -> hypotheses ->
`next_action` -> `pool` with the model's own scores. Only past frames are read, never annotations.
"""

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from .beam_avt import LONGEST_GAP, Reading, Tables, log_sum
from .configuration_avt import ReaderSettings
from .futures_avt import DO_SAMPLE, HORIZON_S, NUM_ACTIONS, NUM_SEQUENCES, continued
from .numbers_avt import moved_only
from .rules_avt import SECONDS, SECONDS_AHEAD
from .temporal_avt import TIME_SLACK_S
from .transitions_avt import build_transitions

LEAST_PROBABILITY = 1e-9  # of an action: one without any hypothesis stays possible, and its log finite


class HistoryReader(nn.Module):
    """Reads recognized frames one by one, and returns the actions so far and the next ones.

    ```python
    reader = model.reader.begin_video()
    for log_probs, time_s in frames:                # (A + 1,), the last one the background
        reader.update(log_probs, time_s)
    reader.next_action(tau_a=1.0)                   # (A,), log probabilities of what starts 1 s after the last frame
    reader.history()                                # what has been done
    ```

    A hypothesis is a text state (the part of a history that the transition model reads) and the progress of its last
    action: one of R phases, each left with a constant probability per frame, or the gap after it. Hypotheses with equal
    text states are merged and their weights summed, in log space.

    Buffers: `log_prior` float32 `(A + 1,)` of the classes of a frame; `leave_phase` `(A,)`, the probability to leave a
    phase of each action in a frame; `gap_after` `(A,)`, that a gap follows it and not an action; `leave_gap` and
    `leave_start` `(1,)`, the probability to leave a gap, and the time before the first action; and those of
    `transitions`. They move with the model but stay float32 when it is cast. The arithmetic is done in NumPy, in
    float64, on the CPU.

    Args:
        settings (`ReaderSettings`): The reader's settings.
        num_actions (`int`): A, the number of actions.
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
        self._reading: Reading | None = None  # of a video that has begun

    def begin_video(self, midway: bool = False) -> "HistoryReader":
        """Returns a reader for another video that shares this reader's tables.

        Args:
            midway (`bool`, *optional*, defaults to `False`): Whether the first frame read is not the first of the
                video, so that earlier actions are unknown.
        """
        reader = copy.copy(self)
        reader._midway, reader._reading = midway, None
        return reader

    def skips_beginning(self, start_s: float) -> bool:
        """Returns whether a reader whose first frame is at `start_s` seconds misses at least one frame of the video."""
        return start_s >= 1 / self.settings.frame_rate - TIME_SLACK_S

    def fork(self) -> "HistoryReader":
        """Returns an independent copy of the reader at its current frame."""
        reader = copy.copy(self)
        reader._reading = copy.copy(self._reading)  # beams are never changed, only replaced
        return reader

    def reset(self):
        """Discards the current video: the next frame begins a new one."""
        self._reading = None

    @property
    def num_frames(self) -> int:
        """The number of moments of the video read so far, including those without a frame."""
        return 0 if self._reading is None else self._reading.num_frames

    @property
    def log_likelihood(self) -> float:
        """Log likelihood of all frames so far, with each frame's evidence scaled by `evidence_weight`."""
        return 0.0 if self._reading is None else self._reading.log_likelihood

    def update(self, frame_log_probs, time_s: float):
        """Reads the next frame.

        Args:
            frame_log_probs (`np.ndarray` or `torch.Tensor` of shape `(A + 1,)`): Log posterior of each action and,
                last, the background, up to an additive constant.
            time_s (`float`): Time of the frame in seconds. The first frame begins the video; later ones are `1 /
                frame_rate` seconds apart. If frames are missing, time passes without evidence.

        Raises:
            ValueError: If the shape is wrong, a score or the time is not finite, or the time does not increase. The
                reader is then unchanged.
        """
        frame = self._checked(frame_log_probs, (self.num_actions + 1,))
        reading, time_s = self._reading, SECONDS("time_s", time_s)
        steps = 1 if reading is None else self._steps_to(time_s, reading)
        if reading is None:
            tables = Tables(self.settings, self.transitions, dict(self.named_buffers(recurse=False)))
            reading = Reading(tables, float(time_s), self._midway)
        self._reading = reading
        reading.update(frame, steps)

    def read(self, frame_log_probs, times_s, tau_a: float | None = None) -> torch.Tensor:
        """Begins a new video, reads all of its frames, and returns the prediction after each of them.

        Args:
            frame_log_probs (`np.ndarray` or `torch.Tensor` of shape `(T, A + 1)`), times_s (sequence of T `float`): As
                in `update`.
            tau_a (`float`, *optional*): As in `next_action`. Default: one frame.

        Returns:
            `torch.Tensor` of shape `(T, A)`: Log probabilities of the next action, float64. The reader then is at the
            last frame.
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
        """Begins a new video, reads it, and returns the prediction and the history at each moment.

        Args:
            moments_s (sequence of M `float`): Seconds in ascending order, none before the first frame. For each, the
                frames at or before it are read.
            frame_log_probs (`np.ndarray` or `torch.Tensor` of shape `(T, A + 1)`), times_s (sequence of T `float`): As
                in `update`.
            tau_a (`float`): As in `next_action`.

        Returns:
            M pairs of the results of `next_action` and `history`.
        """
        reached = self.read_to(moments_s, frame_log_probs, times_s)
        return [(self.next_action(tau_a, moment_s), self.history()) for moment_s in reached]

    def read_to(self, moments_s: Sequence[float], frame_log_probs, times_s) -> Iterator[float]:
        """Begins a new video, and yields each moment once the frames at or before it have been read.

        Args:
            moments_s, frame_log_probs, times_s: As in `answers_at`.
        """
        frames = self._checked(frame_log_probs, (len(times_s), self.num_actions + 1))
        self.reset()
        position = 0
        for moment_s in moments_s:
            while position < len(frames) and times_s[position] <= moment_s + TIME_SLACK_S:
                self.update(frames[position], times_s[position])
                position += 1
            yield moment_s

    def next_action(self, tau_a: float | None = None, at_s: float | None = None) -> torch.Tensor:
        """Returns the log probability that each action starts `tau_a` seconds later, given that some action starts
        then.

        Args:
            tau_a (`float`, *optional*): Seconds; with the time since the last frame, rounded to frames (halves up), at
                least one. Default: one frame.
            at_s (`float`, *optional*): The time from which `tau_a` counts, not before the last frame. Default: the last
                frame's time.

        Returns:
            `torch.Tensor` of shape `(A,)`: float64.

        Raises:
            ValueError: If no frame has been read yet, or the moment is not finite or before the last frame.
        """
        tau_a = 1 / self.settings.frame_rate if tau_a is None else SECONDS_AHEAD("tau_a", tau_a)
        return _log_answer(self._begun().starts(max(1, self._frames_until(at_s, tau_a))))

    def upcoming_action(self) -> torch.Tensor:
        """Returns the log probability that each action is the next one, whenever it starts: float64 `(A,)`."""
        return _log_answer(self._begun().upcoming())

    def next_actions(
        self, num_actions: int, num_sequences: int = 5, *, do_sample: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns sequences of the next actions, whenever they start: ids `(K, Z)` and log probabilities `(K,)`.

        The likeliest are found by a beam search. Probabilities are summed over the hypotheses about the history.

        Args:
            num_actions (`int`): Z, the length of the sequences, from 1 to 1,000.
            num_sequences (`int`, *optional*, defaults to 5): K, the number of sequences. Fewer are returned if fewer
                are possible.
            do_sample (`bool`, *optional*, defaults to `False`): Whether to sample the sequences instead, with torch's
                default generator.

        Returns:
            `torch.Tensor` int64 `(K, Z)` and float64 `(K,)`: see `futures_avt.continued`.

        Raises:
            ValueError: If no frame has been read yet, or a number is out of range.
        """
        beam = self._begun().beam
        sequences, log_probs = continued(
            *(self.transitions, beam.last, beam.past, log_sum(beam.log_weights)),
            NUM_ACTIONS("num_actions", num_actions),
            NUM_SEQUENCES("num_sequences", num_sequences),
            do_sample=DO_SAMPLE("do_sample", do_sample),
        )
        return torch.from_numpy(sequences), torch.from_numpy(log_probs)

    def timeline(self, horizon_s: float, at_s: float | None = None) -> torch.Tensor:
        """Returns the probabilities of what the coming frames show, float64 `(S, A + 1)`, the background last.

        A row is `1 / frame_rate` seconds long; the first begins at `at_s`.

        Args:
            horizon_s (`float`): Length of the timeline in seconds, at most one day.
            at_s (`float`, *optional*): As in `next_action`.
        """
        count = math.ceil(HORIZON_S("horizon_s", horizon_s) * self.settings.frame_rate - TIME_SLACK_S)
        return torch.from_numpy(self._begun().frames(self._frames_until(at_s), max(1, count)))

    def expected_in_s(self, at_s: float | None = None) -> float:
        """Returns the expected number of seconds until the next action starts, whichever it is: the mean over
        hypotheses.

        Args:
            at_s (`float`, *optional*): The time from which to count. Default: the last frame's time.

        Returns:
            `float`: Seconds, 0 or more.
        """
        reading = self._begun()
        waited_s = 0.0 if at_s is None else SECONDS("at_s", at_s) - reading.time_s
        return max(reading.mean_frames_to_start() / self.settings.frame_rate - waited_s, 0.0)

    def history(self) -> list[dict]:
        """Returns the recognized actions so far, oldest first: `{"action", "start_s", "probability"}` each.

        These are the newest actions of the likeliest hypothesis, at most 64. `action` is an id, `start_s` its start in
        seconds, and `probability` the weight of all hypotheses in which that action was the last one begun at the
        midpoint between its start and the next.
        """
        return [] if self._reading is None else self._reading.history()

    def _frames_until(self, at_s: float | None, ahead_s: float = 0.0) -> int:
        """Returns the number of frame intervals from the last frame to a moment, rounded, halves up.

        Halves are common: every other moment, if a model observes twice as many frames per second as its reader reads.
        The rounding of computed times must not decide them.
        """
        reading = self._begun()
        at_s = reading.time_s if at_s is None else SECONDS("at_s", at_s)
        if at_s < reading.time_s - TIME_SLACK_S:
            raise ValueError(
                f"at_s is {at_s}, but the last frame is at {reading.time_s} s: give that time or a later one."
            )
        # Beyond the longest gap the state no longer changes; without the limit, a huge time would overflow the count.
        frames_ahead = (at_s + ahead_s - reading.time_s + TIME_SLACK_S) * self.settings.frame_rate
        return math.floor(min(frames_ahead, LONGEST_GAP + 1) + 0.5)

    def _begun(self) -> Reading:
        if self._reading is None:
            raise ValueError("The reader has not read any frame: call update with the first one.")
        return self._reading

    def _steps_to(self, time_s: float, reading: "Reading") -> int:
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
                f"frame_log_probs has the shape {array.shape}: this reader was fitted on {self.num_actions} "
                f"actions and needs {shape}, the background last."
            )
        if not np.isfinite(array).all():
            raise ValueError(
                "frame_log_probs is not finite, which would corrupt all later answers: check the recognizer's scores."
            )
        return array

    def _apply(self, fn, recurse=True):
        """Moves tables with the model, but keeps their precision."""
        return super()._apply(moved_only(fn), recurse)


def pool(model_logits: torch.Tensor, reader_log_probs: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Returns the log-linear pool of a model's and a reader's predictions: log probabilities, float32 `(..., A)`.

    Args:
        model_logits (`torch.Tensor` of shape `(..., A)`): Scores before softmax.
        reader_log_probs (`torch.Tensor` of shape `(..., A)`): Log probabilities from `HistoryReader.next_action`.
        weights (sequence of two `float`): The model's and the reader's weight.
    """
    of_model, of_reader = weights
    pooled = of_model * model_logits.double().log_softmax(-1) + of_reader * reader_log_probs.double()
    return pooled.log_softmax(-1).float()


def _log_answer(probabilities: np.ndarray) -> torch.Tensor:
    floored = np.maximum(probabilities, LEAST_PROBABILITY)
    return torch.from_numpy(np.log(floored / floored.sum()))
