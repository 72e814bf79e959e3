"""Streaming anticipation: frames are pushed one at a time, and each is encoded at most once.

The model observes T moments, `1 / frame_rate` apart, that end at the moment of the answer. Answers at moments of one
grid share them: each answer encodes one frame and runs the head over the T features in memory. The head's keys and
values are not cached: its positions count within the window, so each feature changes position from one window to
the next.

A video model encodes the clip that ends at each moment again for each moment, since its tokens depend on all frames of
the clip. Between moments, each frame is kept once, however many clips it is in: see `stream_clips_avt`.
"""

import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice

import numpy as np
import torch

from .answers_avt import answer_to, check_can_read, check_observed_alike, described_history
from .beam_avt import LONGEST_GAP
from .futures_avt import Question
from .model_inputs_avt import check_steps
from .numbers_avt import check_encoded, check_weights
from .reader_avt import HistoryReader, pool
from .stream_clips_avt import Clip, ClipMemory, ShownFrame
from .stream_inputs_avt import (
    LEFT_OUT,
    LONGEST_VIDEO_S,
    RESTARTED,
    PushedFrame,
    Verdict,
    as_seconds,
    checked_frame,
    confirms,
    judge,
)
from .temporal_avt import MAX_MOMENTS, TIME_SLACK_S, checked_every, sample_frame_times

MAX_RATIO = 100  # largest numerator or denominator of a ratio of two frame rates

logger = logging.getLogger(__name__)


class AVTStream:
    """Anticipates actions from frames as they are pushed, with the same scores as the offline model on the same window.

    ```python
    stream = model.stream(processor)
    for frame, time_s in camera:
        answer = stream.push(frame, time_s)
        if answer is not None:
            print(answer[0]["at_s"], answer[0]["label"])
    ```

    The first frame's time is the beginning of the video; answers are due then and every `every` seconds after it. A
    moment's frame is the last one that began at or before it (to a microsecond), as in files, even if frames are
    irregular or missing. A moment at a frame's own time is answered by the push of that frame; a moment between two
    frames is answered by the push of the second, when it is certain that no frame comes in between, or by `advance`.

    Camera clocks fail. The stream accepts a frame at once if its time is at most `max_gap_s` after the last one.
    Otherwise it holds the frame back, without an answer, until the next frame arrives:

    - If the next frame continues from the held frame, both are accepted without loss. After a jump ahead, the video
      continues, and the frame before the jump counts as shown during the gap. After a jump back, or one of more than
      30 years, a new video begins with the held frame, as after `reset`, and `at_s` counts on the new clock.
    - Otherwise the held frame is skipped.

    A frame that is up to one second late is out of order and skipped. No numeric time therefore raises or stops a
    stream, and with a clock that only runs forward no frame is skipped, whatever the gaps. The first skipped frame and
    the first reset of the clock are logged as warnings.

    Args:
        model (`AVTForAnticipation`): The model, in evaluation mode. It may be moved or cast between pushes.
        video_processor (`AVTVideoProcessor`, *optional*): Prepares frames, as in evaluation. Not needed by a model
            without a backbone, which accepts features.
        every (`float`, *optional*): Seconds between answers: the model's frame interval `1 / frame_rate`, the default,
            or that interval divided by a whole number, by which the numbers of encoded frames and stored features are
            multiplied.
        top_k (`int`, *optional*, defaults to 5): Number of actions in an answer.
        reader (`bool`, *optional*): Whether to pool the model's answers with those of the checkpoint's `HistoryReader`,
            for which a frame is encoded every `1 / reader.frame_rate` seconds. Default: `True` if the checkpoint has
            one.
        num_actions, num_sequences, do_sample, horizon_s (*optional*): Answer with sequences of the next actions, or
            with a timeline, as in the pipeline; see `Question`.
        max_gap_s (`float`, *optional*, defaults to 60.0): The longest gap between two frames, in seconds, after which
            the second is accepted without waiting for the next. Pass `math.inf` for clocks that never jump ahead by
            mistake.

    Attributes:
        logits (`torch.Tensor` of shape `(A,)` or `None`): Scores of the last answer, float32, on the CPU.
        reader (`HistoryReader` or `None`): The reader, which has read the stream up to the last frame.
        start_s (`float` or `None`): When the video began, on the clock of the frames; `None` before the first frame.
        time_s (`float` or `None`): The moment up to which the video is known, on the same clock.
        num_left_out (`int`): Number of frames skipped because of their times since the last `reset`, not counting
            repetitions.
        num_restarts (`int`): How often a reset of the frames' clock began a new video since the last `reset`.

    Memory use is bounded: two frames, the features of one window, and a reader's hypotheses; for a video model also the
    prepared frames of one clip, or all frames that arrive during it if they are fewer than `every` needs.

    Raises:
        ValueError: If processor and model disagree, an argument is out of range, the model cannot answer the question,
            or a weight is not finite.
    """

    def __init__(
        self,
        model,
        video_processor=None,
        every: float | None = None,
        top_k: int = 5,
        reader: bool | None = None,
        max_gap_s: float = 60.0,
        num_actions: int | None = None,
        num_sequences: int = 5,
        do_sample: bool = False,
        horizon_s: float | None = None,
    ):
        config = model.config
        if video_processor is not None:
            check_observed_alike(video_processor, config)
        elif config.backbone_config is not None:
            raise ValueError(
                "video_processor is None: this model needs frames, so pass the AVTVideoProcessor that was saved with "
                "it."
            )
        interval_s = 1 / config.frame_rate
        every = interval_s if every is None else checked_every(every)
        stride = round(interval_s / every)
        if stride < 1 or abs(stride * every - interval_s) > TIME_SLACK_S:
            raise ValueError(
                f"every is {every}: give the model's frame interval, {interval_s:g} s, or that divided by a whole "
                "number."
            )
        if not max_gap_s > 0:
            raise ValueError(f"max_gap_s is {max_gap_s}: give seconds above 0, or math.inf to accept every jump ahead.")
        if reader:
            check_can_read(model)
        check_weights(model, model.name_or_path or "the model")
        self.model, self.video_processor, self.max_gap_s = model, video_processor, max_gap_s
        self.question = Question(top_k, num_actions, num_sequences, do_sample, horizon_s)
        self.reader = None if reader is False or model.reader is None else model.reader.begin_video()
        if self.reader is None:  # with a reader, steps beyond the first come from the reader
            check_steps(config, config.num_frames, self.question.num_future_steps(config))
        # All moments lie on one grid: every `answer_stride`-th is answered, every `reading_stride`-th is read.
        read_per_frame = Fraction(1) if self.reader is None else _read_per_frame(self.reader, config)
        self.stride = math.lcm(stride, read_per_frame.numerator)
        self.moments_per_s = config.frame_rate * self.stride
        self.answer_stride = self.stride // stride
        self.reading_stride = self.stride * read_per_frame.denominator // read_per_frame.numerator
        # Frames of a clip are 1 / clip_frame_rate apart, moments 1 / moments_per_s: ticks are the common grid of both.
        ticks = _ticks_per_moment(config, self.moments_per_s)
        self._clip_grid = (config.clips.length, ticks.numerator, ticks.denominator)
        self.ticks_per_s = self.moments_per_s * ticks.numerator
        # Features of the last moments: enough for the window of the last answer.
        self._num_kept = (config.num_frames - 1) * self.stride + self.answer_stride
        if self._num_kept > MAX_MOMENTS:
            raise ValueError(
                f"every is {every:g}, which needs the features of {self._num_kept:,} moments in memory, but at most "
                f"{MAX_MOMENTS:,} are kept: give a larger fraction of the frame interval, {interval_s:g} s."
            )
        self.reset()

    def reset(self):
        """Discards all state: the next frame begins a new video, on any clock."""
        self.logits: torch.Tensor | None = None
        self.num_left_out = self.num_restarts = 0
        self._now: _Now | None = None  # `None` before the first frame
        self._set_aside: PushedFrame | None = None
        self._memory = ClipMemory(*self._clip_grid)  # of the frames shown so far
        self._last_clip: Clip | None = None
        # Features of the last moments i / moments_per_s, i = 0, 1, ...: `(D,)` each, or `(S, D)` for a probe.
        self._features: deque[torch.Tensor] = deque(maxlen=self._num_kept)
        if self.reader is not None:
            self.reader.reset()

    @property
    def top_k(self) -> int:
        return self.question.top_k

    @property
    def start_s(self) -> float | None:
        return None if self._now is None else self._now.start_s

    @property
    def time_s(self) -> float | None:
        return None if self._now is None else self._now.time_s

    def push(self, frame, time_s: float) -> list[dict] | None:
        """Adds the next frame, and returns the newest answer that it completes, or `None`.

        Args:
            frame (`np.ndarray`, `torch.Tensor` or image): uint8 `(H, W, 3)` or `(3, H, W)` RGB. It is copied. For a
                model without a backbone, its features: floating point `(D,)`.
            time_s (`float`): When the frame begins, in seconds on the camera's clock. See the class for times that jump
                by more than `max_gap_s` or go back.

        Returns:
            A list of `{"label", "score", "verb", "noun", "starts_in_s", "at_s"}`, most likely first, or the form that
            `num_actions` or `horizon_s` select, as in the pipeline. `at_s` is the moment of the answer on the clock of
            `time_s`, from which `starts_in_s` counts. With a reader also `history`, as in the pipeline but on the clock
            of `time_s`, and `expected_in_s`, the expected number of seconds until the next action starts, whichever it
            is. If several moments pass at once, after a gap or when a frame confirms the one set aside before it, only
            the newest is answered.

        A second frame at the time of the previous one (to a microsecond) is treated as a repetition and skipped.

        Raises:
            ValueError: If the frame has another type or shape, features or scores are not finite, or the time is not a
                number. The stream is then unchanged.
        """
        return self.push_together([self], [frame], [time_s])[0]

    def advance(self, time_s: float) -> list[dict] | None:
        """Returns the newest answer due at or before `time_s`, now that no more frames will begin by then, or `None`.

        Use it while no frames arrive, and at the end of a video, which its last frame does not mark. The time is
        trusted: it confirms a frame that was set aside if that frame is before it.

        Raises:
            ValueError: If no frame has been pushed yet, if the time is before one that is already known, or if it is
                more than 30 years after the first frame. The stream is then unchanged.
        """
        now, aside = self._now, self._set_aside
        if now is None:
            raise ValueError(
                f"advance was called at {time_s} s, but the stream has no frames yet: push the first frame before."
            )
        time_s = as_seconds(time_s)
        step = _Step(self, now, set_aside=aside)
        if aside is not None and confirms(time_s - aside.time_s, time_s - now.start_s - now.known_until_s):
            step = self._taking_up(aside, now)
        step.wait_until(time_s)
        return _take([step])[0]

    @staticmethod
    def push_together(streams: Sequence["AVTStream"], frames: Sequence, times_s: Sequence[float]) -> list:
        """Pushes one frame into each of several streams of one model, and returns the list of their answers.

        All frames are encoded together, up to 32 in one call of the backbone, and all answers are computed in one call
        of the head.

        Raises:
            ValueError: See `push`; also if the streams have different models, a stream is given twice, or the lists
                differ in length. All streams are then unchanged.
        """
        if not len(streams) == len(frames) == len(times_s):
            raise ValueError(
                f"There are {len(streams)} streams, {len(frames)} frames and {len(times_s)} times: give one frame and "
                "one time for each stream."
            )
        if len({id(stream) for stream in streams}) < len(streams):
            raise ValueError("A stream is given twice: push its frames one after another with push.")
        if len({id(stream.model) for stream in streams}) > 1:
            raise ValueError("The streams have different models: call push_together once for each model.")
        pushes = zip(streams, frames, times_s, strict=True)
        steps = [stream._step(frame, time_s) for stream, frame, time_s in pushes]
        answers = iter(_take([step for step in steps if step is not None]))
        return [None if step is None else next(answers) for step in steps]

    def _step(self, frame, time_s: float) -> "_Step | None":
        """Returns the step that a frame causes, leaving the stream unchanged; `None` for a repeated frame."""
        pushed = PushedFrame(checked_frame(frame, self.model.config), as_seconds(time_s))
        now, aside = self._now, self._set_aside
        if now is None:
            return _Step(self).show(pushed)
        elapsed_s = pushed.time_s - now.start_s
        after_aside_s = None if aside is None else pushed.time_s - aside.time_s
        after_s = (elapsed_s - now.shown.begins_s, elapsed_s - now.known_until_s, after_aside_s)
        verdict = judge(*after_s, self.max_gap_s)
        if verdict is Verdict.REPEATED:
            return None
        if verdict is Verdict.OUT_OF_ORDER:
            return _Step(self, now, set_aside=aside, left_out=pushed)
        if verdict is Verdict.GOES_ON:
            return _Step(self, now, left_out=aside).show(pushed)
        if aside is None or verdict is Verdict.JUMPS:
            return _Step(self, now, set_aside=pushed, left_out=aside)
        step = self._taking_up(aside, now)
        if pushed.time_s - aside.time_s <= self.max_gap_s:
            return step.show(pushed)
        step.set_aside = pushed
        return step

    def _taking_up(self, aside: PushedFrame, now: "_Now") -> "_Step":
        """Returns the step that accepts the frame set aside: after a gap, or as the beginning of a new video."""
        is_gap = now.known_until_s < aside.time_s - now.start_s <= LONGEST_VIDEO_S
        return _Step(self, now if is_gap else None).show(aside)

    def _num_ticks_by(self, elapsed_s: float) -> int:
        """Returns the number of ticks at or before a time."""
        return int((elapsed_s + TIME_SLACK_S) * self.ticks_per_s) + 1

    def _prepare(self, pixels: torch.Tensor) -> torch.Tensor:
        assert self.video_processor is not None  # the constructor requires it for models with a backbone
        return self.video_processor.preprocess(pixels[None])["pixel_values_videos"][0]


@dataclass
class _Now:
    """The current position of a stream."""

    start_s: float  # the first frame's time on the caller's clock; all others count from it
    known_until_s: float  # no more frames will begin at or before this
    shown: ShownFrame  # the last frame taken

    @property
    def time_s(self) -> float:
        """On the caller's clock."""
        return self.start_s + self.known_until_s


@dataclass
class _ReaderAnswer:
    """A reader's answer at a moment."""

    log_probs: torch.Tensor  # (A,): of the next action
    shown: dict  # the reader's fields in the stream's answer
    reader: HistoryReader  # its state at that moment
    moment_s: float  # on the reader's clock


@dataclass
class _Step:
    """A pending change of a stream by a push or an advance, which is applied by `commit` only.

    `now` is the stream's position, updated by `show` and `wait_until`; `None` when a video begins. `passed` holds the
    clips shown at the moments that passed, each with the number of those moments.
    """

    stream: AVTStream
    now: _Now | None = None
    set_aside: PushedFrame | None = None
    left_out: PushedFrame | None = None
    passed: list[tuple[Clip, int]] = field(default_factory=list)
    logits: torch.Tensor | None = None
    answer: list[dict] | None = None
    reader: HistoryReader | None = None

    def __post_init__(self):
        self.begins_video = self.now is None
        self.memory = ClipMemory(*self.stream._clip_grid) if self.begins_video else self.stream._memory.copy()
        self.last_clip = None if self.begins_video else self.stream._last_clip
        self.first_moment = self.memory.num_moments()

    @property
    def start_s(self) -> float:
        """On the caller's clock."""
        assert self.now is not None  # a step that begins a video has already shown its first frame
        return self.now.start_s

    def show(self, pushed: PushedFrame) -> "_Step":
        """Shows the previous frame until this one, and this one at the tick at its own time, if there is one."""
        start_s = pushed.time_s if self.now is None else self.now.start_s
        frame = ShownFrame(pushed.content, pushed.time_s - start_s)
        num_ticks = self.stream._num_ticks_by(frame.begins_s) - self.memory.num_ticks
        newest_s = (self.memory.num_ticks + num_ticks - 1) / self.stream.ticks_per_s
        is_on_tick = num_ticks > 0 and newest_s >= frame.begins_s - TIME_SLACK_S
        if self.now is not None:
            self._pass(self.now.shown, num_ticks - is_on_tick)
        self._pass(frame, int(is_on_tick))
        self.now = _Now(start_s, frame.begins_s, frame)
        return self

    def wait_until(self, time_s: float):
        """Shows the last frame until a time on the caller's clock."""
        now = self.now
        assert now is not None
        elapsed_s = time_s - now.start_s
        if elapsed_s < now.known_until_s - TIME_SLACK_S:
            raise ValueError(f"time_s is {time_s}, but the stream is at {now.time_s} s already: give a later time.")
        if elapsed_s > LONGEST_VIDEO_S:
            raise ValueError(f"time_s is {time_s}, more than 30 years after {now.start_s} s: give seconds.")
        elapsed_s = max(elapsed_s, now.known_until_s)
        self._pass(now.shown, self.stream._num_ticks_by(elapsed_s) - self.memory.num_ticks)
        self.now = _Now(now.start_s, elapsed_s, now.shown)

    def _pass(self, frame: ShownFrame, num_ticks: int):
        """Shows a frame at the next ticks, and observes the moments among them."""
        first = self.memory.num_moments()
        self.memory.show(frame, num_ticks)
        num_new = self.memory.num_moments() - first
        num_distinct = min(num_new, self.memory.num_distinct())
        for moment in range(first, first + num_distinct):
            is_last = moment == first + num_distinct - 1
            self._observe(self.memory.clip(moment), 1 + (num_new - num_distinct if is_last else 0))

    def _observe(self, frames: list[ShownFrame], num_moments: int):
        if self.last_clip is None or not self.last_clip.shows(frames):
            self.last_clip = Clip(frames)
        if self.passed and self.passed[-1][0] is self.last_clip:
            num_moments += self.passed.pop()[1]
        self.passed.append((self.last_clip, num_moments))

    def observed(self) -> list[Clip]:
        """Returns the clips shown at the moments that passed."""
        return [clip for clip, _ in self.passed]

    def num_moments(self) -> int:
        return self.memory.num_moments()

    def features(self) -> deque[torch.Tensor]:
        """Returns the stored features, with those of the moments that passed."""
        features = self.stream._features.copy()
        if self.begins_video:
            features.clear()
        for clip, num_moments in self.passed:
            assert clip.features is not None  # see `_take`
            features.extend([clip.features] * min(num_moments, self.stream._num_kept))
        return features

    def prepare(self):
        """Resizes and normalizes the frames in clips, so that no more than two frames are kept at their original
        size."""
        if self.stream.model.config.backbone_config is not None:
            for _, frame in self.memory.shown:
                if not frame.is_prepared:
                    (frame.content,) = self.stream._prepare(frame.content)
                    frame.is_prepared = True

    def is_answered(self) -> bool:
        """Returns whether one of the moments that passed is due for an answer."""
        return bool(self.observed()) and self.answered_moment() >= self.first_moment

    def answered_moment(self) -> int:
        """Returns the number of the newest moment that is due for an answer."""
        return (self.num_moments() - 1) // self.stream.answer_stride * self.stream.answer_stride

    def window(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the window of the answered moment: features `(T, D)` or tokens `(T, S, D)`, and mask `(T,)`."""
        config, at_s = self.stream.model.config, self.at_s()
        _, mask = sample_frame_times(at_s - config.tau_o, at_s, config.frame_rate, config.frame_rate, config.num_frames)
        later = self.num_moments() - 1 - self.answered_moment()
        newest_first = list(self.features())[::-1][later :: self.stream.stride][: config.num_frames]
        newest = newest_first[0]
        newest_first += [torch.zeros_like(newest)] * (config.num_frames - len(newest_first))
        # Stored features may have another device and dtype if the model was moved or cast between two pushes.
        return torch.stack([kept.to(newest) for kept in newest_first[::-1]]), torch.from_numpy(mask)

    def at_s(self) -> float:
        """Returns the time of the answered moment in seconds from the first frame."""
        return self.answered_moment() / self.stream.moments_per_s

    def read(self, frame_log_probs: Iterator[np.ndarray]) -> "_ReaderAnswer | None":
        """Reads the moments that passed with a copy of the stream's reader.

        Args:
            frame_log_probs (iterator of `np.ndarray` of shape `(A + 1,)`): Log probabilities of what each observed clip
                shows.

        Returns:
            The reader's answer at the answered moment; `None` if no moment is answered.
        """
        assert self.stream.reader is not None
        reader, answer = self.stream.reader.fork(), None
        if self.begins_video:
            reader.reset()
        self.reader = reader
        first = self.first_moment
        for log_probs, (_, count) in zip(frame_log_probs, self.passed, strict=True):
            for moment in self._moments_to_read(first, count):
                moment_s = moment / self.stream.moments_per_s
                if moment % self.stream.reading_stride == 0:
                    reader.update(log_probs, moment_s)
                if moment == self.answered_moment():
                    answer = self._reader_answer(reader, moment_s)
            first += count
        return answer

    def _moments_to_read(self, first: int, count: int) -> Iterator[int]:
        """Yields the moments at which a frame is shown; after hours without a new frame, only the first ones and the
        last."""
        read_until = min(first + count, first + LONGEST_GAP * self.stream.reading_stride)
        yield from range(first, read_until)
        if read_until <= self.answered_moment() < first + count:
            yield self.answered_moment()

    def _reader_answer(self, reader: HistoryReader, moment_s: float) -> "_ReaderAnswer":
        config, start_s = self.stream.model.config, self.start_s
        history = described_history(reader.history(), config)
        history = [{**entry, "start_s": start_s + entry["start_s"]} for entry in history]
        shown = {"history": history, "expected_in_s": reader.expected_in_s(moment_s)}
        return _ReaderAnswer(reader.next_action(config.tau_a, moment_s), shown, reader.fork(), moment_s)

    def commit(self):
        stream = self.stream
        self._report()
        if self.observed():
            stream._features, stream._last_clip = self.features(), self.last_clip
        self.memory.forget(self.num_moments())
        stream._memory = self.memory
        if self.answer is not None:
            stream.logits = self.logits
        if self.reader is not None:
            stream.reader = self.reader
        stream._now, stream._set_aside = self.now, self.set_aside

    def _report(self):
        """Counts skipped frames and restarts, and logs a warning for the first of each."""
        stream, before = self.stream, self.stream._now
        if before is None:
            return
        if self.left_out is not None:
            stream.num_left_out += 1
            if stream.num_left_out == 1:
                logger.warning(LEFT_OUT, self.left_out.time_s, before.time_s)
        if self.begins_video:
            stream.num_restarts += 1
            if stream.num_restarts == 1:
                logger.warning(RESTARTED, before.time_s, self.start_s)


@torch.inference_mode()
def _take(steps: list[_Step]) -> list[list[dict] | None]:
    """Computes the answers of steps in streams of one model, and commits the steps only if all succeed."""
    observing = [step for step in steps if step.observed()]
    for step in steps:
        step.prepare()
    if observing:
        model = observing[0].stream.model
        if model.training:
            raise ValueError("The model is in training mode, where dropout makes answers random: call model.eval().")
        _encode(model, [clip for step in observing for clip in step.observed() if clip.features is None])
        reader_answers = _read(model, [step for step in observing if step.stream.reader is not None])
        _answer(model, [step for step in observing if step.is_answered()], reader_answers)
    for step in steps:
        step.commit()
    return [step.answer for step in steps]


def _read(model, steps: list[_Step]) -> dict[int, _ReaderAnswer]:
    """Reads the observed clips with the streams' readers, and returns their answers by `id` of the step."""
    if not steps:
        return {}
    observed = [clip.features for step in steps for clip in step.observed() if clip.features is not None]  # all
    features = torch.stack([features.to(model.device) for features in observed])
    recognized = iter(model.recognize_frames(features).cpu().numpy())
    reader_answers = {id(step): step.read(islice(recognized, len(step.observed()))) for step in steps}
    return {key: value for key, value in reader_answers.items() if value is not None}


def _answer(model, steps: list[_Step], reader_answers: dict[int, _ReaderAnswer]):
    if not steps:
        return
    windows, masks = (torch.stack(parts).to(model.device) for parts in zip(*[s.window() for s in steps], strict=True))
    rolled_out = [
        1 if id(step) in reader_answers else step.stream.question.num_future_steps(model.config) for step in steps
    ]
    output = model(video_features=windows, frame_mask=masks, num_future_steps=max(rolled_out))
    all_scores = output.logits[:, None] if max(rolled_out) == 1 else output.future_logits  # (M, K, A)
    for step, num_steps, scores in zip(steps, rolled_out, all_scores.float().cpu(), strict=True):
        scores, from_reader, reader, read_until_s = scores[:num_steps], {}, None, None
        if (reader_answer := reader_answers.get(id(step))) is not None:
            scores = pool(scores, reader_answer.log_probs, model.reader.settings.fusion_weights)
            from_reader, reader, read_until_s = reader_answer.shown, reader_answer.reader, reader_answer.moment_s
        step.logits = scores[0].clone()
        at_s = step.start_s + step.at_s()
        answer = answer_to(step.stream.question, scores, model.config, at_s, reader, read_until_s)
        step.answer = [{**entry, "at_s": at_s, **from_reader} for entry in answer]


def _encode(model, new: list[Clip]):
    """Computes the features of newly observed clips together."""
    if not new:
        return
    if model.config.backbone_config is None:
        encoded = [clip.frames[-1].content.to(model.device) for clip in new]
    else:
        distinct = {id(frame): frame for clip in new for frame in clip.frames}
        places = {key: place for place, key in enumerate(distinct)}
        clips = torch.tensor([[places[id(frame)] for frame in clip.frames] for clip in new])
        encoded = model.encode_clips(torch.stack([frame.content for frame in distinct.values()]), clips)
        check_encoded(encoded)
    for clip, features in zip(new, encoded, strict=True):
        clip.features = features.clone()  # a view would keep the features of all streams' clips in memory


def _read_per_frame(reader: HistoryReader, config) -> Fraction:
    """Returns the ratio of the reader's frame rate to the model's."""
    read, observed = reader.settings.frame_rate, config.frame_rate
    if (ratio := _ratio(read, observed)) is None:
        raise ValueError(
            f"The reader reads {read:g} frames/s, the model {observed:g}: a stream needs a simple ratio of the two. "
            "Pass reader=False for the model alone."
        )
    return ratio


def _ticks_per_moment(config, moments_per_s: float) -> Fraction:
    """Returns the number of clip frames per moment; 1 for image models, whose clips have one frame."""
    if config.clips.length == 1:
        return Fraction(1)
    if (ratio := _ratio(config.clip_frame_rate, moments_per_s)) is None:
        raise ValueError(
            f"A clip has {config.clip_frame_rate:g} frames/s, and there are {moments_per_s:g} moments/s: a stream "
            "needs a simple ratio of the two. Give another `every`."
        )
    return ratio


def _ratio(rate: float, other: float) -> Fraction | None:
    """Returns the ratio of two rates, or `None` if it is not a fraction with a denominator up to `MAX_RATIO`."""
    ratio = Fraction(rate / other).limit_denominator(MAX_RATIO)
    return ratio if ratio and abs(float(ratio) * other / rate - 1) <= TIME_SLACK_S else None
