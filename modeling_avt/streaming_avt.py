"""Anticipation while a video is being watched: frames come one at a time, each is encoded at most once.

The model observes T frames, `1 / frame_rate` apart, that end at the moment of the answer. Answers at moments of one
grid share frames: each answer encodes one frame and runs the head over the T features in memory. The head's own keys
and values are not kept: its positions count within the window, so each feature is at another position in the next one.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
import torch

from .answers_avt import check_can_read, check_observed_alike, described_history, most_likely
from .numbers_avt import check_encoded, check_features, check_weights
from .reader_avt import LONGEST_GAP, HistoryReader, pool
from .rules_avt import TOP_K
from .temporal_avt import MAX_MOMENTS, TIME_SLACK_S, checked_every, sample_frame_times

MAX_RATIO = 100  # of the reader's frame rate and the model's, either way


class AVTStream:
    """Answers what the model answers offline on the same window, from frames pushed as they come.

    ```python
    stream = model.stream(processor)
    for frame, time_s in camera:
        answer = stream.push(frame, time_s)
        if answer is not None:
            print(answer[0]["at_s"], answer[0]["label"])
    ```

    The first frame's time is the beginning of the video; answers are due then and every `every` seconds after it. A
    moment's frame is the last one that began at or before it (to a microsecond), as in files, however irregularly
    frames come and however many are missing. A moment that falls on a frame's own time is answered by the push of that
    frame; one that lies between two frames is answered by the push of the second, as only then is it known that none
    came before, or by `advance`.

    Args:
        model (`AVTForAnticipation`): In evaluation mode. It may be moved or cast between pushes.
        video_processor (`AVTVideoProcessor`, *optional*): Prepares frames, as in evaluation. Not needed by a model
            without backbone, which takes features.
        every (`float`, *optional*): Seconds between answers: the model's frame interval `1 / frame_rate`, the default,
            or a whole fraction of it, with as many more frames encoded and features kept.
        top_k (`int`, *optional*, defaults to 5): How many actions an answer holds.
        reader (`bool`, *optional*): Whether the checkpoint's `HistoryReader` answers together with the model. It reads
            a frame every `1 / reader.frame_rate` seconds, which is encoded for it. Default: where there is one.

    Attributes:
        logits (`torch.Tensor` of shape `(A,)` or `None`): float32, on the CPU, of the last answer.
        reader (`HistoryReader` or `None`): What has read the stream up to the last frame.

    The memory in use does not grow: one frame, the features of one window, and a reader's hypotheses.

    Raises:
        ValueError: where processor and model disagree, an argument is out of range, or a weight is not finite.
    """

    def __init__(
        self, model, video_processor=None, every: float | None = None, top_k: int = 5, reader: bool | None = None
    ):
        config = model.config
        if video_processor is not None:
            check_observed_alike(video_processor, config)
        elif config.backbone_config is not None:
            raise ValueError("video_processor is None: this model takes frames, give the AVTVideoProcessor beside it.")
        interval_s = 1 / config.frame_rate
        every = interval_s if every is None else checked_every(every)
        stride = round(interval_s / every)
        if stride < 1 or abs(stride * every - interval_s) > TIME_SLACK_S:
            raise ValueError(
                f"every is {every}: give the model's frame interval, {interval_s:g} s, or a whole fraction of it."
            )
        if reader:
            check_can_read(model)
        check_weights(model, model.name_or_path or "the model")
        self.model, self.video_processor, self.top_k = model, video_processor, TOP_K("top_k", top_k)
        self.reader = None if reader is False or model.reader is None else model.reader.begin_video()
        # Moments of one grid: every `answer_stride`-th is answered, every `reading_stride`-th is read.
        read_per_frame = Fraction(1) if self.reader is None else _ratio(self.reader.settings.frame_rate, config)
        self.stride = math.lcm(stride, read_per_frame.numerator)
        self.moments_per_s = config.frame_rate * self.stride
        self.answer_stride = self.stride // stride
        self.reading_stride = self.stride * read_per_frame.denominator // read_per_frame.numerator
        # Features of the last moments: enough for the window of the last answer.
        self._num_kept = (config.num_frames - 1) * self.stride + self.answer_stride
        if self._num_kept > MAX_MOMENTS:
            raise ValueError(
                f"every is {every:g}, with which a stream keeps the features of {self._num_kept:,} moments in memory: "
                f"at most {MAX_MOMENTS:,} are kept, so give a larger fraction of the frame interval, {interval_s:g} s."
            )
        self.reset()

    def reset(self):
        """Forgets everything seen: the next frame begins another video, on any clock."""
        self.logits: torch.Tensor | None = None
        self._now: _Now | None = None  # `None` before the first frame
        self._num_moments = 0  # moments that are over: i / moments_per_s, i = 0..num_moments-1
        self._features: deque[torch.Tensor] = deque(maxlen=self._num_kept)  # of the frames shown then, `(D,)` each
        if self.reader is not None:
            self.reader.reset()

    def push(self, frame, time_s: float) -> list[dict] | None:
        """Takes the next frame, and returns the newest answer that it completes, or `None`.

        Args:
            frame (`np.ndarray`, `torch.Tensor` or image): uint8 `(H, W, 3)` or `(3, H, W)` RGB. It is copied. For a
                model without backbone, its features: floating point `(D,)`.
            time_s (`float`): When the frame begins, in seconds on any clock that goes forward.

        Returns:
            A list of `{"label", "score", "verb", "noun", "starts_in_s", "at_s"}`, most likely first: as from the
            pipeline, and `at_s` is the moment of the answer on the clock of `time_s`, from which `starts_in_s` counts.
            With a reader also `history`, as from the pipeline but on the clock of `time_s`, and `expected_in_s`: in how
            many seconds the next action is expected to start, whichever it is. Where a gap between frames lets several
            moments pass at once, the newest is answered.

        A second frame at the time of the one before (to a microsecond) is taken for a repetition and left out.

        Raises:
            ValueError: for a frame of another type or shape, for features or scores that are not finite, for a time
                that is no number, and for one before the last frame's or before what `advance` was told. The stream is
                then as it was.
        """
        return self.push_together([self], [frame], [time_s])[0]

    def advance(self, time_s: float) -> list[dict] | None:
        """Returns the newest answer due at or before `time_s`, now that no more frames will begin by then, or `None`.

        For clocks that go on where frames do not, and for the end of a video, which its last frame does not tell.

        Raises:
            ValueError: before the first frame, and for a time before one that is already known. The stream is then as
                it was.
        """
        now = self._now
        if now is None:
            raise ValueError(f"The stream has no frames at {time_s} s: push one first, the video begins with it.")
        elapsed_s = _as_seconds(time_s) - now.start_s
        if elapsed_s < now.known_until_s - TIME_SLACK_S:
            raise ValueError(f"time_s is {time_s}, but the stream is at {now.time_s} s already: times go forward.")
        elapsed_s = max(elapsed_s, now.known_until_s)
        num_passed = self._num_moments_by(elapsed_s) - self._num_moments
        step = _Step(self, _Now(now.start_s, elapsed_s, now.shown), [(now.shown, num_passed)])
        return _take([step])[0]

    @staticmethod
    def push_together(streams: Sequence["AVTStream"], frames: Sequence, times_s: Sequence[float]) -> list:
        """Pushes one frame into each of several streams of one model, and returns what each `push` would.

        All frames are encoded in one call of the backbone, all answers computed in one call of the head.

        Raises:
            ValueError: as `push`, and for streams of different models, a stream given twice or lists of different
                lengths. All streams are then as they were.
        """
        if not len(streams) == len(frames) == len(times_s):
            raise ValueError(
                f"There are {len(streams)} streams, {len(frames)} frames and {len(times_s)} times: give one frame and "
                "one time for each stream."
            )
        if len({id(stream) for stream in streams}) < len(streams):
            raise ValueError("A stream is given twice: push its frames one after the other.")
        if len({id(stream.model) for stream in streams}) > 1:
            raise ValueError("The streams have different models: push into those of one model together.")
        pushes = zip(streams, frames, times_s, strict=True)
        steps = [stream._step(frame, time_s) for stream, frame, time_s in pushes]
        answers = iter(_take([step for step in steps if step is not None]))
        return [None if step is None else next(answers) for step in steps]

    def _step(self, frame, time_s: float) -> "_Step | None":
        """Returns what a frame brings about, the stream itself unchanged; `None` for a repeated frame."""
        time_s, frame = _as_seconds(time_s), self._checked(frame)
        now = self._now
        start_s = time_s if now is None else now.start_s
        elapsed_s = time_s - start_s
        if now is not None and elapsed_s <= now.known_until_s + TIME_SLACK_S:
            if abs(elapsed_s - now.shown.begins_s) <= TIME_SLACK_S:
                return None
            raise ValueError(
                f"A frame of {time_s} s comes late, the stream is at {now.time_s} s already: push frames in order, "
                "leave late ones out, and call reset() before another video."
            )
        pushed = _Frame(frame, elapsed_s)
        num_passed = self._num_moments_by(elapsed_s) - self._num_moments
        newest_s = (self._num_moments + num_passed - 1) / self.moments_per_s
        is_on_moment = num_passed > 0 and newest_s >= elapsed_s - TIME_SLACK_S
        passed = [] if now is None else [(now.shown, num_passed - is_on_moment)]
        return _Step(self, _Now(start_s, elapsed_s, pushed), [*passed, (pushed, int(is_on_moment))])

    def _checked(self, frame) -> torch.Tensor:
        """Returns a copy of a frame, on the CPU, or of its features."""
        if not isinstance(frame, torch.Tensor):
            frame = torch.from_numpy(_as_array(frame))
        else:
            frame = frame.detach().to("cpu", copy=True)
        config = self.model.config
        if config.backbone_config is None:
            if not frame.is_floating_point() or frame.shape != (config.feature_dim,):
                raise ValueError(
                    f"The features are {frame.dtype} of shape {tuple(frame.shape)}: this model takes floating point "
                    f"({config.feature_dim},)."
                )
            check_features(frame, "The features", "leave the frame out, or extract them anew")
        elif frame.dtype != torch.uint8 or frame.ndim != 3 or 3 not in (frame.shape[0], frame.shape[-1]):
            raise ValueError(
                f"The frame is {frame.dtype} of shape {tuple(frame.shape)}: give uint8 (H, W, 3) or (3, H, W)."
            )
        elif not frame.numel():
            raise ValueError(f"The frame has the shape {tuple(frame.shape)}: it holds no pixels.")
        return frame

    def _num_moments_by(self, elapsed_s: float) -> int:
        """The number of moments at or before a time."""
        return int((elapsed_s + TIME_SLACK_S) * self.moments_per_s) + 1

    def _prepare(self, pixels: torch.Tensor) -> torch.Tensor:
        assert self.video_processor is not None  # the constructor demands it where frames have pixels
        return self.video_processor.preprocess(pixels[None])["pixel_values_videos"][0]


@dataclass
class _Frame:
    """A frame of a stream: its pixels until it is encoded, its features `(D,)` from then on."""

    content: torch.Tensor
    begins_s: float
    is_encoded: bool = False


@dataclass
class _Now:
    """How far a stream is."""

    start_s: float  # the first frame's time on the caller's clock; all others count from it
    known_until_s: float  # no frame that begins at or before this can come any more
    shown: _Frame  # the last frame pushed

    @property
    def time_s(self) -> float:
        """On the caller's clock."""
        return self.start_s + self.known_until_s


@dataclass
class _Step:
    """What a push or an advance brings about in a stream, which takes it on by `commit` and not before.

    `now` is how far the stream is afterwards. `passed` holds the last frame and, after a push, the new one, each with
    the number of moments that passed while it was shown.
    """

    stream: AVTStream
    now: _Now
    passed: list[tuple[_Frame, int]]
    logits: torch.Tensor | None = None
    answer: list[dict] | None = None
    reader: HistoryReader | None = None

    def observed(self) -> list[_Frame]:
        """The frames that are shown at the moments that passed."""
        return [frame for frame, num_moments in self.passed if num_moments]

    def num_moments(self) -> int:
        return self.stream._num_moments + sum(num_moments for _, num_moments in self.passed)

    def features(self) -> deque[torch.Tensor]:
        """The features in memory, with those of the moments that passed."""
        features = self.stream._features.copy()
        for frame, num_moments in self.passed:
            features.extend([frame.content] * min(num_moments, self.stream._num_kept))
        return features

    def is_answered(self) -> bool:
        """Whether one of the moments that passed is due for an answer."""
        return bool(self.observed()) and self.answered_moment() >= self.stream._num_moments

    def answered_moment(self) -> int:
        """The number of the newest moment that is due for an answer."""
        return (self.num_moments() - 1) // self.stream.answer_stride * self.stream.answer_stride

    def window(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The window of the answered moment: features `(T, D)` and mask `(T,)`."""
        config, at_s = self.stream.model.config, self.at_s()
        _, mask = sample_frame_times(at_s - config.tau_o, at_s, config.frame_rate, config.frame_rate, config.num_frames)
        later = self.num_moments() - 1 - self.answered_moment()
        newest_first = list(self.features())[::-1][later :: self.stream.stride][: config.num_frames]
        newest = newest_first[0]
        newest_first += [torch.zeros_like(newest)] * (config.num_frames - len(newest_first))
        # Features differ in device and type where the model was moved or cast between two pushes.
        return torch.stack([kept.to(newest) for kept in newest_first[::-1]]), torch.from_numpy(mask)

    def at_s(self) -> float:
        """The answered moment, counted from the first frame."""
        return self.answered_moment() / self.stream.moments_per_s

    def read(self, frame_log_probs: Iterator[np.ndarray]) -> tuple[torch.Tensor, dict] | None:
        """Lets a copy of the stream's reader read the moments that passed.

        Args:
            frame_log_probs (iterator of `np.ndarray` of shape `(A + 1,)`): Of the observed frames.

        Returns:
            What it says at the answered moment: log probabilities `(A,)`, and what an answer has of it; `None` where
            none is answered.
        """
        assert self.stream.reader is not None
        reader, said = self.stream.reader.fork(), None
        self.reader = reader
        first, counts = self.stream._num_moments, [num_moments for _, num_moments in self.passed if num_moments]
        for log_probs, count in zip(frame_log_probs, counts, strict=True):
            for moment in self._moments_to_read(first, count):
                moment_s = moment / self.stream.moments_per_s
                if moment % self.stream.reading_stride == 0:
                    reader.update(log_probs, moment_s)
                if moment == self.answered_moment():
                    said = self._said(reader, moment_s)
            first += count
        return said

    def _moments_to_read(self, first: int, count: int) -> Iterator[int]:
        """Yields the moments when a frame is shown; of a camera that stood still for hours the first and the last."""
        read_until = min(first + count, first + LONGEST_GAP * self.stream.reading_stride)
        yield from range(first, read_until)
        if read_until <= self.answered_moment() < first + count:
            yield self.answered_moment()

    def _said(self, reader: HistoryReader, moment_s: float) -> tuple[torch.Tensor, dict]:
        config, start_s = self.stream.model.config, self.now.start_s
        history = described_history(reader.history(), config)
        history = [{**entry, "start_s": start_s + entry["start_s"]} for entry in history]
        said = {"history": history, "expected_in_s": reader.expected_in_s(moment_s)}
        return reader.next_action(config.tau_a, moment_s), said

    def commit(self):
        stream = self.stream
        if self.observed():
            stream._features = self.features()
            stream._num_moments = self.num_moments()
        if self.answer is not None:
            stream.logits = self.logits
        if self.reader is not None:
            stream.reader = self.reader
        stream._now = self.now


@torch.inference_mode()
def _take(steps: list[_Step]) -> list[list[dict] | None]:
    """Computes the answers of steps in streams of one model, and only then lets the streams take them on."""
    observing = [step for step in steps if step.observed()]
    if observing:
        model = observing[0].stream.model
        if model.training:
            raise ValueError("The model is in training mode, where dropout makes answers random: call model.eval().")
        frames = [(step.stream, frame) for step in observing for frame in step.observed()]
        _encode(model, [(stream, frame) for stream, frame in frames if not frame.is_encoded])
        said = _read(model, [step for step in observing if step.stream.reader is not None])
        _answer(model, [step for step in observing if step.is_answered()], said)
    for step in steps:
        step.commit()
    return [step.answer for step in steps]


def _read(model, steps: list[_Step]) -> dict[int, tuple[torch.Tensor, dict]]:
    """Lets readers read what is observed, and returns what they say, by the id of the step, where one is answered."""
    if not steps:
        return {}
    frames = [frame.content for step in steps for frame in step.observed()]
    recognized = iter(model.recognize_frames(torch.stack([f.to(model.device) for f in frames])).cpu().numpy())
    said = {id(step): step.read(islice(recognized, len(step.observed()))) for step in steps}
    return {key: value for key, value in said.items() if value is not None}


def _answer(model, steps: list[_Step], said: dict[int, tuple[torch.Tensor, dict]]):
    if not steps:
        return
    windows, masks = (torch.stack(parts).to(model.device) for parts in zip(*[s.window() for s in steps], strict=True))
    logits = model(video_features=windows, frame_mask=masks).logits.float().cpu()  # (M, A)
    for step, scores in zip(steps, logits, strict=True):
        of_reader = {}
        if id(step) in said:
            log_probs, of_reader = said[id(step)]
            scores = pool(scores, log_probs, model.reader.settings.fusion_weights)
        step.logits = scores.clone()
        best = most_likely(scores, model.config, step.stream.top_k)
        at_s = step.now.start_s + step.at_s()
        step.answer = [{**entry, "at_s": at_s, **of_reader} for entry in best]


def _encode(model, new: list[tuple[AVTStream, _Frame]]):
    """Computes the features of frames that are observed for the first time, in one call."""
    if not new:
        return
    if model.config.backbone_config is None:
        encoded = [frame.content.to(model.device) for _, frame in new]
    else:
        prepared = [stream._prepare(frame.content) for stream, frame in new]
        encoded = model.encode_frames(torch.cat(prepared).to(model.device))
        check_encoded(encoded)
    for (_, frame), features in zip(new, encoded, strict=True):
        # A copy: a view would keep the features of all streams' frames in memory.
        frame.content, frame.is_encoded = features.clone(), True


def _ratio(frame_rate: float, config) -> Fraction:
    """Returns how many frames are read for each one that the model observes."""
    ratio = Fraction(frame_rate / config.frame_rate).limit_denominator(MAX_RATIO)
    if not ratio or abs(float(ratio) * config.frame_rate / frame_rate - 1) > TIME_SLACK_S:
        raise ValueError(
            f"The reader reads {frame_rate:g} frames/s, the model {config.frame_rate:g}: a stream needs a simple ratio "
            "of the two. Pass reader=False for the model alone."
        )
    return ratio


def _as_seconds(time_s) -> float:
    try:
        seconds = float(time_s)
    except (TypeError, ValueError):
        seconds = np.nan
    if not np.isfinite(seconds):
        raise ValueError(f"time_s is {time_s!r}: give seconds, as a number.")
    return seconds


def _as_array(frame) -> np.ndarray:
    """Returns a copy in ordinary memory order: torch takes no mirrored views, such as BGR turned RGB."""
    try:
        array = np.array(frame, order="C")
    except (TypeError, ValueError):
        array = np.array(None)
    if array.dtype.kind not in "biuf" or not array.size:
        raise ValueError(f"The frame is a {type(frame).__name__} of shape {array.shape}: give an array of its values.")
    return array
