"""Reading the frames that are shown at given times, with PyAV, decoding no more than needed.

Time 0 is the first frame of the video stream, whatever the file's own clock says, so that frame `i` of a constant-rate
video is shown from `i / fps` on, as annotations count.
"""

import io
import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from .temporal_avt import TIME_SLACK_S

SKIPPABLE_CODECS = ("h264",)  # their frames say whether others need them, and leave the decoder alone if not
# Pictures up to here are read by one thread. On two cores a second one brings nothing, and a third more processor time
# goes to waking it; where many windows are read, loaders have several processes anyway.
SMALL_PICTURE_PX = 1280 * 720


class VideoDecodeError(ValueError):
    """A video, or a moment of it, cannot be read.

    Attributes:
        path (`str`): The file, or `"<bytes>"`.
        time_s (`float` or `None`): The moment asked for, where one is at fault.
        cause (`str`): What is wrong.
    """

    def __init__(self, path: str, cause: str, time_s: float | None = None):
        self.path, self.cause, self.time_s = path, cause, time_s
        moment = "" if time_s is None else f" at {time_s:.3f} s"
        super().__init__(f"Cannot read {path}{moment}: {cause}")

    def __reduce__(self):  # errors cross process borders in data loaders
        return type(self), (self.path, self.cause, self.time_s)


@dataclass(frozen=True)
class VideoInfo:
    """What a video's container and first frame tell.

    Args:
        duration_s (`float`): From the first frame to the end of the last.
        fps (`float`): Average frames per second.
        width, height (`int`): In pixels, as shown (after rotation).
        num_frames (`int`): Number of frames.
    """

    duration_s: float
    fps: float
    width: int
    height: int
    num_frames: int


def read_frames(
    path_or_bytes: str | Path | bytes, times_s: Sequence[float] | np.ndarray, *, resize_short_side: int | None = None
) -> np.ndarray:
    """Returns the frames shown at the given times, uint8 `(T, H, W, 3)` RGB, in the order of `times_s`.

    The frame shown at a time is the last one that begins at or before it. Rotation is applied, variable frame rates and
    files whose clock does not begin at 0 are honoured, and only what the moments need is decoded:
    stretches from a key frame to a moment, without frames that no other refers to.

    Args:
        path_or_bytes (`str`, `Path` or `bytes`): A video file, or its content.
        times_s (`Sequence[float]`): Seconds from the first frame, in any order, repetitions allowed.
        resize_short_side (`int`, *optional*): Scale the shorter side to this many pixels while converting, keeping the
            aspect ratio.

    Raises:
        VideoDecodeError: for a file that cannot be decoded, for times below 0 or beyond the end, and for an empty list.
    """
    name = _name(path_or_bytes)
    times = [float(time_s) for time_s in times_s]
    if not times:
        raise VideoDecodeError(name, "the list of times is empty; give at least one.")
    for time_s in times:
        if not (math.isfinite(time_s) and time_s >= -TIME_SLACK_S):
            raise VideoDecodeError(name, "times are seconds from the first frame, 0 or more.", time_s)
    frames = {}
    ascending = sorted(set(times))
    with _VideoStream(path_or_bytes) as stream:
        for time_s, next_s in zip_longest(ascending, ascending[1:]):
            frames[time_s] = stream.image_at(time_s, resize_short_side, next_s)
    return np.stack([frames[time_s] for time_s in times])


def probe(path_or_bytes: str | Path | bytes) -> VideoInfo:
    """Returns duration, frame rate, size and number of frames, decoding the first frame alone.

    Files that do not state their frames (Matroska, WebM) have their packets counted, which reads the file once.

    Raises:
        VideoDecodeError: for a file that cannot be opened or holds no video.
    """
    with _VideoStream(path_or_bytes) as stream:
        return stream.info()


class _VideoStream:
    """One open video stream, asked for moments in ascending order.

    Packets are read ahead of the decoder, which tells the frame that a moment shows before anything is decoded. Frames
    that no other needs and no moment shows are then skipped, and nothing after the last is decoded. Between two moments
    the stream either decodes on or seeks to a later key frame.

    Attributes:
        ahead (`deque`): Packets that were read and not given to the decoder.
        inside (`set`): Times of frames that the decoder was given and did not return.
        decoded (`deque`): Frames that it returned and that are not on display yet, `(ticks, av.VideoFrame)`.
        shown (`tuple`): The frame on display, likewise; `None` before the first.
        position (`int`): Time of the last packet that the decoder was given.

    Times are ticks of the stream's time base.
    """

    def __init__(self, path_or_bytes):
        self.name = _name(path_or_bytes)
        self.av = _import_av()
        source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else str(path_or_bytes)
        try:
            self.container = self.av.open(source, "r")
        except (self.av.FFmpegError, OSError) as error:
            raise VideoDecodeError(self.name, f"it cannot be opened ({_describe(error)}).") from error
        if not self.container.streams.video:
            self.container.close()
            raise VideoDecodeError(self.name, "it holds no video.")
        self.stream = self.container.streams.video[0]
        self.codec = self.stream.codec_context
        # AVI stores no presentation times, and those that FFmpeg guesses go back and forth around B-frames; frames come
        # out in display order all the same, and their decoding times count them.
        self.is_avi = self.container.format.name == "avi"
        if self.codec.width * self.codec.height <= SMALL_PICTURE_PX:
            self.codec.thread_count = 1
        elif not self.is_avi:
            self.stream.thread_type = "AUTO"
        assert self.stream.time_base is not None  # FFmpeg gives every stream that it reads one
        self.tick_s = self.stream.time_base
        self.has_frame_times = not self.is_avi  # whether each packet bears the time of the frame in it
        self._read_from_here()
        start = self.stream.start_time
        if start is None or self.is_avi:
            with self._naming_errors():
                start = self._first_ticks() or 0
        self.start = start
        # Seeking ahead by less than this has been seen to land behind the frame on display.
        self.shortest_seek = self._to_ticks(1.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.container.close()

    @contextmanager
    def _naming_errors(self, time_s: float | None = None) -> Iterator[None]:
        """Turns FFmpeg's errors into ours, which say which file and moment they are about."""
        try:
            yield
        except self.av.FFmpegError as error:
            raise VideoDecodeError(self.name, f"decoding failed ({_describe(error)}).", time_s) from error

    def image_at(self, time_s: float, resize_short_side: int | None, next_s: float | None = None) -> np.ndarray:
        """Returns the frame shown at `time_s`, uint8 `(H, W, 3)`; times must not descend between calls.

        `next_s` is the next moment that will be asked for, `None` for none.
        """
        next_target = None if next_s is None else self._target(next_s)
        with self._naming_errors(time_s):
            return _to_image(self._frame_at(self._target(time_s), next_target, time_s), resize_short_side)

    def info(self) -> VideoInfo:
        """Returns what the container states, or where it does not, what its packets show."""
        num_frames, duration = self.stream.frames, self.stream.duration
        fps = self.stream.average_rate
        if not num_frames or duration is None or not fps:
            num_frames, duration = self._count_packets()
            fps = num_frames / (duration * self.tick_s) if duration else 0
        width, height = self.codec.width, self.codec.height
        if self._rotation() % 180:
            width, height = height, width
        return VideoInfo(float(duration * self.tick_s), float(fps), width, height, num_frames)

    def _count_packets(self) -> tuple[int, int]:
        with self._naming_errors():
            packets = [(p.pts, p.duration or 0) for p in chain(self.ahead, self.packets) if p.pts is not None]
            if not packets:
                raise VideoDecodeError(self.name, "it holds no frames.")
            self._restart(None)
        (last, duration), count = max(packets), len(packets)
        return count, last + (duration or self._frame_ticks()) - self.start

    def _rotation(self) -> int:
        """Degrees by which frames are turned counter-clockwise for display; only a decoded frame tells."""
        with self._naming_errors():
            first = self._next_frame()
        return 0 if first is None else first[1].rotation

    def _target(self, time_s: float) -> int:
        return self.start + math.floor((Fraction(time_s) + Fraction(TIME_SLACK_S)) / self.tick_s)

    def _frame_at(self, target: int, next_target: int | None, time_s: float):
        if self._worth_seeking(target):
            self._seek(target)
        wanted = self._show(target, next_target)
        if wanted is not None and (self.shown is None or self.shown[0] != wanted):
            self.has_frame_times = False  # or the packet is damaged, which then comes to light
            self._seek(target)
            wanted = self._show(target, next_target)
        if self.shown is None:
            raise VideoDecodeError(self.name, "it holds no frames that carry times.", time_s)
        if self.shown[1].is_corrupt:
            raise VideoDecodeError(self.name, "the frame is damaged.", time_s)
        if self._shows_the_last(wanted):
            end = self.shown[0] + (self.shown[1].duration or self._frame_ticks())
            # The very end still shows the last frame: `probe(path).duration_s` is a valid time.
            if target > end:
                end_s = float((end - self.start) * self.tick_s)
                raise VideoDecodeError(self.name, f"the video ends at {end_s:.3f} s.", time_s)
        return self.shown[1]

    def _show(self, target: int, next_target: int | None) -> int | None:
        """Decodes until the frame of `target` is on display, and returns its time where the packets told it before."""
        self._read_ahead(target)
        wanted = self._time_of_frame_at(target)
        while self.shown is None or self.shown[0] != wanted:
            frame = self._next_frame(wanted, next_target)
            if frame is None:
                break
            if frame[0] > target:
                self.decoded.appendleft(frame)
                break
            self.shown = frame
        return wanted

    def _read_ahead(self, target: int):
        """Reads packets until one, by its decoding time, shows that none after it begins at or before `target`."""
        while not self.all_read and not (self.ahead and (self.ahead[-1].dts or target) > target):
            self._read_packet()

    def _read_packet(self):
        packet = next(self.packets, None)
        if packet is None or not packet.size:  # an empty one marks the end
            self.all_read = True
        else:
            self.ahead.append(packet)

    def _time_of_frame_at(self, target: int) -> int | None:
        """Returns when the frame shown at `target` begins; `None` where packets do not tell."""
        times = [packet.pts for packet in self.ahead if not packet.is_discard]
        if not self.has_frame_times or None in times:
            return None
        times += [*self.inside, *(ticks for ticks, _ in self.decoded), *([self.shown[0]] if self.shown else [])]
        return max((ticks for ticks in times if ticks <= target), default=None)

    def _shows_the_last(self, wanted: int | None) -> bool:
        if wanted is None:
            return self.is_flushed and not self.decoded
        later = [*self.inside, *(packet.pts for packet in self.ahead), *(ticks for ticks, _ in self.decoded)]
        return self.all_read and max(later, default=wanted) <= wanted

    def _next_frame(self, wanted: int | None = None, next_target: int | None = None):
        """Returns the next frame with its time; `None` at the end. See `_decode_packet`."""
        while not self.decoded and not self.is_flushed:
            self._decode_packet(wanted, next_target)
        return self.decoded.popleft() if self.decoded else None

    def _decode_packet(self, wanted: int | None, next_target: int | None):
        """Decodes a packet; frames before `wanted` only where others need them. Where decoding will not go on after
        `wanted`, has the decoder return it at once."""
        if not self.ahead and not self.all_read:
            self._read_packet()
        if not self.ahead:
            return self._flush()
        packet = self.ahead.popleft()
        skipped = self.codec.name in SKIPPABLE_CODECS and wanted is not None and packet.pts < wanted
        self.codec.skip_frame = "NONREF" if skipped else "DEFAULT"
        ticks = packet.dts if self.is_avi else packet.pts
        if ticks is not None:
            self.position = ticks
            if not skipped:
                self.inside.add(ticks)
        self._keep(self.codec.decode(packet))
        if wanted is not None and ticks == wanted and (next_target is None or self._worth_seeking(next_target)):
            self._flush()

    def _flush(self):
        self.is_flushed = True
        self._keep(self.codec.decode(None))

    def _keep(self, frames: list):
        for frame in frames:
            ticks = frame.dts if self.is_avi else frame.pts
            if ticks is None:  # AVI: the frames that leave the decoder last carry no time
                before = self.decoded[-1] if self.decoded else self.shown
                if before is None:
                    continue
                ticks = before[0] + self._frame_ticks()
            self.inside.discard(ticks)
            self.decoded.append((ticks, frame))

    def _worth_seeking(self, target: int) -> bool:
        """Whether a key frame lies between the next frame to decode and `target`, as far as the container's index
        tells."""
        if self.is_flushed and (self.ahead or not self.all_read):
            return True  # the decoder cannot go on from here
        position = self.start if self.position is None else self.position
        if target <= position:
            return False
        index = self.stream.index_entries
        entry = index.search_timestamp(target, backward=True)
        if entry >= 0 and index[entry].timestamp > position:
            return True
        index_is_whole = self.stream.frames and len(index) >= self.stream.frames
        return not index_is_whole and target - position > self.shortest_seek

    def _seek(self, target: int):
        """Moves to the last key frame from which `target` can be decoded."""
        position = self.start if self.position is None else self.position
        step, anchor = self._to_ticks(1.0), target
        while True:
            self._restart(anchor)
            # Containers index decoding times, so that the key frame found may be shown only after the target.
            first = self._first_ticks()
            if first is not None and first <= target:
                break
            if anchor <= self.start:
                self._restart(None)
                break
            anchor, step = max(anchor - step, self.start), 2 * step
        if first is not None and first <= position:
            self.shortest_seek = max(self.shortest_seek, 2 * (target - first))

    def _restart(self, anchor: int | None):
        """Begins to read at the last key frame at or before `anchor`, or at the first frame."""
        ticks = self.stream.start_time or 0 if anchor is None else anchor
        self.container.seek(ticks, stream=self.stream, backward=True)
        self._read_from_here()

    def _read_from_here(self):
        self.packets = self.container.demux(self.stream)
        self.ahead, self.inside, self.decoded = deque(), set(), deque()
        self.shown = self.position = None
        self.all_read = self.is_flushed = False

    def _first_ticks(self) -> int | None:
        """Returns when the first frame after a restart begins; `None` where it does not tell."""
        if self.is_avi:
            first = self._next_frame()
            if first is None:
                return None
            self.decoded.appendleft(first)
            return first[0]
        while not self.ahead and not self.all_read:
            self._read_packet()
            if self.ahead and not self.ahead[0].is_keyframe:  # it cannot be decoded
                self.ahead.clear()
        return self.ahead[0].pts if self.ahead else None

    def _frame_ticks(self) -> int:
        fps = self.stream.average_rate or self.stream.guessed_rate or 25
        return round(1 / (fps * self.tick_s))

    def _to_ticks(self, seconds: float) -> int:
        return round(seconds / self.tick_s)


def _to_image(frame, resize_short_side: int | None) -> np.ndarray:
    width, height = frame.width, frame.height
    if resize_short_side is not None:
        height, width = short_side_size(height, width, resize_short_side)
    threads = 1 if frame.width * frame.height <= SMALL_PICTURE_PX else 0  # 0: as many as there are cores
    image = frame.to_ndarray(format="rgb24", width=width, height=height, threads=threads)
    return np.rot90(image, k=frame.rotation // 90) if frame.rotation else image


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Returns `(height, width)` scaled so that the shorter side is `short_side` pixels; the longer one is cut to an
    integer."""
    scale = short_side / min(height, width)
    return max(int(height * scale), short_side), max(int(width * scale), short_side)


def _import_av():
    try:
        import av
    except ImportError as error:
        raise ImportError("Reading video needs PyAV: `pip install av`.") from error
    return av


def _name(path_or_bytes) -> str:
    return "<bytes>" if isinstance(path_or_bytes, bytes) else str(path_or_bytes)


def _describe(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
