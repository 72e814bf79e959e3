"""Reading the frames that are shown at given times, with PyAV, decoding no more than needed.

Time 0 is the first frame of the video stream, whatever the file's own clock says, so that frame `i` of a constant-rate
video is shown from `i / fps` on, as annotations count.
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from .temporal_avt import TIME_SLACK_S

SMALL_PICTURE_PX = 320 * 240  # pictures up to here are read by one thread: waking others takes longer than their share


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
    path_or_bytes: str | Path | bytes, times_s: Sequence[float], *, resize_short_side: int | None = None
) -> np.ndarray:
    """Returns the frames shown at the given times, uint8 `(T, H, W, 3)` RGB, in the order of `times_s`.

    The frame shown at a time is the last one that begins at or before it. Rotation is applied, variable frame rates and
    files whose clock does not begin at 0 are honoured, and only the stretches from a key frame to each moment are
    decoded.

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
    with _VideoStream(path_or_bytes) as stream:
        for time_s in sorted(set(times)):
            frames[time_s] = stream.image_at(time_s, resize_short_side)
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

    `shown` is the frame on display, `upcoming` the one after it; both with their times on the stream's own clock, in
    ticks of its time base. Between two moments the stream either decodes on or seeks to a later key frame.
    """

    def __init__(self, path_or_bytes):
        self.name = _name(path_or_bytes)
        self.av = _import_av()
        source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else str(path_or_bytes)
        try:
            self.container = self.av.open(source)
        except (self.av.FFmpegError, OSError) as error:
            raise VideoDecodeError(self.name, f"it cannot be opened ({_describe(error)}).") from error
        if not self.container.streams.video:
            self.container.close()
            raise VideoDecodeError(self.name, "it holds no video.")
        self.stream = self.container.streams.video[0]
        # AVI stores no presentation times, and those that FFmpeg guesses go back and forth around B-frames; frames come
        # out in display order all the same, and their decoding times count them.
        self.is_avi = self.container.format.name == "avi"
        if self.stream.codec_context.width * self.stream.codec_context.height <= SMALL_PICTURE_PX:
            self.stream.codec_context.thread_count = 1
        elif not self.is_avi:
            self.stream.thread_type = "AUTO"
        self.tick_s = self.stream.time_base
        self.frames = None
        self.shown = self.upcoming = None  # (ticks, av.VideoFrame) or None
        self.start = self.stream.start_time
        if self.start is None or self.is_avi:
            with self._naming_errors():
                self._restart(None)
            self.start = 0 if self.upcoming is None else self.upcoming[0]
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

    def image_at(self, time_s: float, resize_short_side: int | None) -> np.ndarray:
        """Returns the frame shown at `time_s`, uint8 `(H, W, 3)`; times must not descend between calls."""
        target = self.start + math.floor((Fraction(time_s) + Fraction(TIME_SLACK_S)) / self.tick_s)
        with self._naming_errors(time_s):
            return _to_image(self._frame_at(target, time_s), resize_short_side)

    def info(self) -> VideoInfo:
        """Returns what the container states, or where it does not, what its packets show."""
        codec = self.stream.codec_context
        num_frames, duration = self.stream.frames, self.stream.duration
        fps = self.stream.average_rate
        if not num_frames or duration is None or not fps:
            num_frames, duration = self._count_packets()
            fps = num_frames / (duration * self.tick_s) if duration else 0
        width, height = codec.width, codec.height
        if self._rotation() % 180:
            width, height = height, width
        return VideoInfo(float(duration * self.tick_s), float(fps), width, height, num_frames)

    def _count_packets(self) -> tuple[int, int]:
        with self._naming_errors():
            packets = [(p.pts, p.duration or 0) for p in self.container.demux(self.stream) if p.pts is not None]
        if not packets:
            raise VideoDecodeError(self.name, "it holds no frames.")
        (last, duration), count = max(packets), len(packets)
        return count, last + (duration or self._frame_ticks()) - self.start

    def _rotation(self) -> int:
        """Degrees by which frames are turned counter-clockwise for display; only a decoded frame tells."""
        if self.upcoming is None:
            with self._naming_errors():
                self._restart(None)
        return 0 if self.upcoming is None else self.upcoming[1].rotation

    def _frame_at(self, target: int, time_s: float):
        if self._worth_seeking(target):
            self._seek(target)
        elif self.frames is None:
            self._restart(None)
        while self.upcoming is not None and (self.shown is None or self.upcoming[0] <= target):
            self.shown, self.upcoming = self.upcoming, self._decode()
        if self.shown is None:
            raise VideoDecodeError(self.name, "it holds no frames that carry times.", time_s)
        if self.shown[1].is_corrupt:
            raise VideoDecodeError(self.name, "the frame is damaged.", time_s)
        if self.upcoming is None:
            end = self.shown[0] + (self.shown[1].duration or self._frame_ticks())
            # The very end still shows the last frame: `probe(path).duration_s` is a valid time.
            if target > end:
                end_s = float((end - self.start) * self.tick_s)
                raise VideoDecodeError(self.name, f"the video ends at {end_s:.3f} s.", time_s)
        return self.shown[1]

    def _worth_seeking(self, target: int) -> bool:
        """Whether a key frame lies between the next frame to decode and `target`, as far as the container's index
        tells."""
        at = self.upcoming or self.shown
        position = at[0] if at else self.start
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
        at = self.upcoming or self.shown
        position = at[0] if at else self.start
        step, anchor = self._to_ticks(1.0), target
        while True:
            self._restart(anchor)
            # Containers index decoding times, so that the key frame found may be shown only after the target.
            if self.upcoming is not None and self.upcoming[0] <= target:
                break
            if anchor <= self.start:
                self._restart(None)
                break
            anchor, step = max(anchor - step, self.start), 2 * step
        if self.upcoming is not None and self.upcoming[0] <= position:
            self.shortest_seek = max(self.shortest_seek, 2 * (target - self.upcoming[0]))

    def _restart(self, anchor: int | None):
        """Begins to decode at the last key frame at or before `anchor`, or at the first frame."""
        if anchor is not None:
            self.container.seek(anchor, stream=self.stream, backward=True)
        elif self.frames is not None:
            self.container.seek(self.stream.start_time or 0, stream=self.stream, backward=True)
        self.frames = self.container.decode(self.stream)
        self.shown = self.upcoming = None
        self.upcoming = self._decode()

    def _decode(self):
        """Returns the next frame with its time in ticks; `None` at the end, and for a first frame without a time."""
        frame = next(self.frames, None)
        if frame is None:
            return None
        ticks = frame.dts if self.is_avi else frame.pts
        if ticks is None:  # AVI: the frames that leave the decoder last carry no time
            before = self.upcoming or self.shown
            if before is None:
                return None  # after a seek, `_seek` then goes further back
            ticks = before[0] + self._frame_ticks()
        return ticks, frame

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
