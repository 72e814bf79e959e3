"""Reading the frames shown at given times with PyAV, decoding no more than necessary.

Time 0 is the first displayable picture of the video stream, regardless of the file's own clock, so that frame `i` of a
constant-rate video is shown from `i / fps` on, as annotations count.

Each moment gives the same picture as decoding the whole file in order, whatever other moments are requested; otherwise
a `VideoDecodeError` names the file, the moment and the cause.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .picture_folder_avt import PictureFolder, numbered_pictures, picture_folder
from .temporal_avt import TIME_SLACK_S
from .video_packets_avt import MOST_REORDERED, SMALL_PICTURE_PX, ScannedPackets, of_file, open_packets
from .video_source_avt import VideoDecodeError, VideoSource, import_av, naming_errors

__all__ = [
    "PictureFolder",
    "VideoContent",
    "VideoDecodeError",
    "VideoInfo",
    "as_displayed",
    "numbered_pictures",
    "probe",
    "read_frames",
    "short_side_size",
    "to_image",
]

# Their frames state whether others need them, and can be skipped without side effects if not.
SKIPPABLE_CODECS = "h264"

# Their decoders accept any frame as the first, and return gray where it refers to earlier ones.
UNCHECKED_CODECS = (
    "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "h263", "flv", "mpeg1video", "mpeg2video",
)  # fmt: skip
FIRST_PYAV_WITH_THREADS = 17  # earlier releases convert a picture with one thread only
INTRA = 1  # av.video.frame.PictureType.I

VideoContent = str | Path | bytes | bytearray | memoryview | BinaryIO | PictureFolder


@dataclass(frozen=True)
class VideoInfo:
    """Metadata of a video from its container and first frame.

    Args:
        duration_s (`float`): From the first frame to the end of the last.
        fps (`float`): Average frames per second.
        width, height (`int`): In pixels, as shown (after rotation).
        num_frames (`int`): Number of frames that are shown.
    """

    duration_s: float
    fps: float
    width: int
    height: int
    num_frames: int


def read_frames(
    path_or_bytes: VideoContent, times_s: Sequence[float] | np.ndarray, *, resize_short_side: int | None = None
) -> np.ndarray:
    """Returns the frames shown at the given times, uint8 `(T, H, W, 3)` RGB, in the order of `times_s`.

    The frame shown at a time is the last one that begins at or before it. Rotation and mirroring are applied, and
    variable frame rates and files whose clock does not begin at 0 are supported. Decoding is limited to the
    stretch from a key frame to each moment, without frames that no other refers to.

    Args:
        path_or_bytes (`str`, `Path`, `bytes`, `bytearray`, `memoryview` or `BinaryIO`): A video file or its `http(s)`
            address, its content, a file open for reading bytes, or a `PictureFolder`.
        times_s (`Sequence[float]`): Seconds from the first frame, in any order, repetitions allowed.
        resize_short_side (`int`, *optional*): Scale the shorter side to this many pixels while converting, keeping the
            aspect ratio.

    Raises:
        VideoDecodeError: If the file cannot be decoded or its clock jumps back, frames of a moment are lost or damaged,
            a time is below 0 or beyond the end, the list is empty, or moments show pictures of different sizes.
    """
    video = picture_folder(path_or_bytes) or VideoSource(path_or_bytes)
    name = video.name
    times = [_as_seconds(time_s, name) for time_s in times_s]
    if not times:
        raise VideoDecodeError(name, "the list of times is empty; give at least one.")
    images = {}
    ascending = sorted(set(times))
    for time_s, image in _images(video, ascending, resize_short_side):
        images[time_s] = image
        (height, width, _), (first_height, first_width, _) = image.shape, images[ascending[0]].shape
        if (height, width) != (first_height, first_width):
            sizes = f"from {first_width} x {first_height} to {width} x {height} pixels"
            raise VideoDecodeError(name, f"its pictures change {sizes}: convert it to one size.", time_s)
    return np.stack([images[time_s] for time_s in times])


def _images(video: PictureFolder | VideoSource, ascending: list[float], short_side: int | None):
    """Yields each time with the picture shown then."""
    if isinstance(video, PictureFolder):
        for time_s, frame in zip(ascending, video.frames_at(ascending), strict=True):
            yield time_s, to_image(frame, short_side)
        return
    with _VideoStream(video) as stream:
        for time_s, next_s in zip_longest(ascending, ascending[1:]):
            yield time_s, stream.image_at(time_s, short_side, next_s)


def probe(path_or_bytes: VideoContent) -> VideoInfo:
    """Returns duration, frame rate, size and number of frames; for most files only the first frame is decoded.

    In formats that do not state their number of frames (all but MP4), packets are counted, which reads the file once.
    For AVI the last frames are decoded as well, and for files whose frames carry no times all of them.

    Raises:
        VideoDecodeError: If the file cannot be opened, holds no video, or has a clock that jumps back.
    """
    folder = picture_folder(path_or_bytes)
    if folder is None:
        return of_file(_info, VideoSource(path_or_bytes))
    height, width = to_image(folder.frames_at([0.0])[0]).shape[:2]
    return VideoInfo(folder.duration_s, folder.frames_per_second, width, height, len(folder.files()))


def _as_seconds(time_s, name: str) -> float:
    try:
        seconds = float(time_s)
    except (TypeError, ValueError):
        raise VideoDecodeError(name, f"{time_s!r} is not a time: give seconds from the first frame.") from None
    if not (math.isfinite(seconds) and seconds >= -TIME_SLACK_S):
        raise VideoDecodeError(name, "times are seconds from the first frame, 0 or more.", seconds)
    return seconds


def _info(source: VideoSource) -> VideoInfo:
    first = of_file(_first_picture, source)
    with _VideoStream(source) as stream, naming_errors(source.name):
        packets = stream.packets
        num_frames, end = packets.extent(first.ticks) if stream.has_frame_times else stream.extent(first.num_before)
        duration_s = (end - first.ticks) * packets.tick_s
        rate = packets.stream.average_rate if packets.stream.frames else None
        fps = rate or (num_frames / duration_s if duration_s else 0)
    return VideoInfo(float(duration_s), float(fps), first.width, first.height, num_frames)


@dataclass(frozen=True)
class _FirstPicture:
    """The first displayable picture of a file, which may be later than its first packet: recordings may begin between
    key frames.

    Args:
        ticks (`int`): When it begins on the file's clock.
        num_before (`int`): How many packets the decoder was given before the one upon which it returned the picture.
        height, width (`int`): In pixels, as shown.
    """

    ticks: int
    num_before: int
    height: int
    width: int


def _first_picture(source: VideoSource) -> _FirstPicture:
    with _VideoStream(source, start=0) as stream, naming_errors(source.name):
        packets, frames, num_packets, is_first = stream.packets, [], 0, True
        while not frames and (packet := packets.read()) is not None:
            frames, num_packets = packets.codec.decode(packet), num_packets + 1
            is_first = is_first and not packet.is_discard
        for frame in frames or packets.codec.decode(None):
            if is_first and not _can_begin_with(frame, packets.codec.name):
                raise VideoDecodeError(source.name, "it holds no key frame to begin with.")
            ticks = stream.ticks_of(frame)
            if ticks is not None:
                height, width = to_image(frame).shape[:2]
                return _FirstPicture(ticks, num_packets - 1, height, width)
    raise VideoDecodeError(source.name, "it holds no picture that can be shown.")


class _VideoStream:
    """An open video stream, read at moments in ascending order.

    Packets are read ahead of the decoder, so that the frame of a moment is known before anything is decoded. Frames
    that no other frame needs and no moment shows are skipped, and nothing after the last moment is decoded. Between two
    moments the stream either continues decoding or seeks to a later key frame.

    Attributes:
        ahead (`deque`): Packets that were read and not given to the decoder.
        inside (`set`): Times of frames that the decoder was given and did not return.
        decoded (`deque`): Frames that it returned and that are not on display yet, `(ticks, av.VideoFrame)`.
        shown (`tuple`): The frame on display, likewise; `None` before the first.
        position (`int`): Time of the last packet that the decoder was given.
        key (`int`): Time of the last key frame that the decoder was given.
        entry (`int`): Time of the key frame at which reading began; `None` for the first of the file.

    Times are ticks of the stream's time base.
    """

    def __init__(self, source: VideoSource, start: int | None = None):
        self.name = source.name
        self.start = of_file(_first_picture, source).ticks if start is None else start
        self.packets = open_packets(source)
        self.tick_s = self.packets.tick_s
        self.has_frame_times = self.packets.clock.kind == "pts"  # whether each packet carries the time of its frame
        self._begin(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.packets.close()

    def image_at(self, time_s: float, resize_short_side: int | None, next_s: float | None = None) -> np.ndarray:
        """Returns the frame shown at `time_s`, uint8 `(H, W, 3)`; times must not descend between calls.

        `next_s` is the next moment that will be requested, or `None`.
        """
        next_target = None if next_s is None else self._target(next_s)
        with naming_errors(self.name, time_s=time_s):
            return to_image(self._frame_at(self._target(time_s), next_target, time_s), resize_short_side)

    def ticks_of(self, frame) -> int | None:
        """Returns when a frame begins; `None` if that is not known."""
        ticks = {"pts": frame.pts, "dts": frame.dts, "count": None}[self.packets.clock.kind]
        if ticks is not None:
            return ticks
        # The last frames out of the decoder carry no decoding time.
        before = self.decoded[-1] if self.decoded else self.shown
        if before is not None:
            return before[0] + self.packets.frame_ticks
        return 0 if self.packets.clock.kind == "count" else None

    def extent(self, num_before_first: int) -> tuple[int, int]:
        """Returns the number of frames and when the last one ends, if packets do not carry their times."""
        packets, last, num_frames, num_after_packets = self.packets, self.start, 0, 0
        assert isinstance(packets, ScannedPackets)  # others state the times
        if packets.clock.kind == "dts":
            self._enter(int(packets.table.dts[-1]) - MOST_REORDERED * packets.frame_ticks)
        while (frame := self._next_frame()) is not None:
            self.shown, (last, _), num_frames = frame, frame, num_frames + 1
            num_after_packets += self.is_flushed
        if packets.clock.kind == "dts":  # one frame for each packet, once the first is out
            num_frames = packets.num_packets - num_before_first + num_after_packets
        return num_frames, last + packets.frame_ticks

    def _target(self, time_s: float) -> int:
        return self.start + math.floor((Fraction(time_s) + Fraction(TIME_SLACK_S)) / self.tick_s)

    def _frame_at(self, target: int, next_target: int | None, time_s: float):
        if self._worth_entering(target):
            self._enter(target)
        step = self.packets.frame_ticks
        while True:
            wanted = self._show(target, next_target)
            if self.shown is not None and wanted in (None, self.shown[0]):
                break
            if self.shown is not None:
                self.has_frame_times = False  # or the packet is damaged, which is then detected
                self._enter(target)
            elif self.entry is not None:
                # Pictures recover only some time after this key frame, or it is not a real one: seek further and
                # further back.
                self._enter(target, before=self.entry - step)
                step *= 2
            else:
                raise VideoDecodeError(self.name, "no picture can be shown.", time_s)
        self._check_shown(target, wanted, time_s)
        return self.shown[1]

    def _check_shown(self, target: int, wanted: int | None, time_s: float):
        """Raises `VideoDecodeError` if a frame is damaged, or no longer shown at `target`."""
        assert self.shown is not None
        ticks, frame = self.shown
        end = ticks + (frame.duration or self.packets.frame_ticks)
        later = [time for time in self._times_known() if time > ticks]
        # Some packets hold nothing to show (alternate references, second fields), but one at a time.
        is_lost = sum(time <= target for time in later) > 1
        following = min(later) if later and target >= end else None
        if frame.is_corrupt or is_lost or self.packets.has_lost(self.key, ticks, following):
            cause = f"the frame is damaged, or frames at about {self._to_seconds(ticks):.3f} s are lost."
            raise VideoDecodeError(self.name, cause, time_s)
        # The very end still shows the last frame: `probe(path).duration_s` is a valid time.
        if self._shows_the_last(wanted) and target > end + math.ceil(TIME_SLACK_S / self.tick_s):
            raise VideoDecodeError(
                self.name, f"the video ends at {self._to_seconds(end):.3f} s: give an earlier time.", time_s
            )

    def _show(self, target: int, next_target: int | None) -> int | None:
        """Decodes until the frame of `target` is on display, and returns its time if packets state it."""
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
        """Reads packets until no later one can hold a frame that begins by `target`: packets are in decoding order, and
        at most `MOST_REORDERED` frames are decoded before one that is shown earlier."""
        if not self.has_frame_times:
            return
        num_later = sum(ticks > target for ticks in self._times_known())
        last = self.ahead[-1] if self.ahead else None
        while not self.all_read and num_later <= MOST_REORDERED:
            if self.packets.states_decoding_times and last is not None and last.dts is not None and last.dts > target:
                break
            last = self._read_packet()
            num_later += last is not None and (last.pts is None or last.pts > target)

    def _read_packet(self):
        packet = self.packets.read()
        if packet is None:
            self.all_read = True
        else:
            self.ahead.append(packet)
        return packet

    def _times_known(self) -> list[int]:
        """Returns the times of frames that were read but are not yet on display."""
        ahead = [packet.pts for packet in self.ahead if packet.pts is not None and self._is_shown(packet)]
        return [*ahead, *self.inside, *(ticks for ticks, _ in self.decoded)]

    def _is_shown(self, packet) -> bool:
        """Returns whether a packet holds a visible frame, not one outside the part that an edit list selects."""
        return not packet.is_discard

    def _time_of_frame_at(self, target: int) -> int | None:
        """Returns when the frame shown at `target` begins; `None` if packets do not give it."""
        if not self.has_frame_times or any(packet.pts is None for packet in self.ahead):
            return None
        times = [*self._times_known(), *([self.shown[0]] if self.shown else [])]
        return max((ticks for ticks in times if ticks <= target), default=None)

    def _shows_the_last(self, wanted: int | None) -> bool:
        if wanted is None:
            return self.is_flushed and not self.decoded
        return self.all_read and max(self._times_known(), default=wanted) <= wanted

    def _next_frame(self, wanted: int | None = None, next_target: int | None = None):
        """Returns the next frame with its time; `None` at the end. See `_decode_packet`."""
        while not self.decoded and not self.is_flushed:
            self._decode_packet(wanted, next_target)
        return self.decoded.popleft() if self.decoded else None

    def _decode_packet(self, wanted: int | None, next_target: int | None):
        """Decodes a packet, skipping frames before `wanted` that no others need. If decoding will not continue after
        `wanted`, the decoder is flushed to return it at once."""
        if not self.ahead and not self.all_read:
            self._read_packet()
        if not self.ahead:
            return self._flush()
        packet, codec = self.ahead.popleft(), self.packets.codec
        skipped = codec.name in SKIPPABLE_CODECS and wanted is not None and packet.pts < wanted
        self.is_at_entry = self.is_at_entry and self._is_shown(packet)
        codec.skip_frame = "NONREF" if skipped else "DEFAULT"
        ticks = packet.dts if self.packets.clock.kind == "dts" else packet.pts
        if ticks is not None:
            self.position = ticks
            if packet.is_keyframe:
                self.key = ticks
            if not skipped and self._is_shown(packet):
                self.inside.add(ticks)
        try:
            self._keep(codec.decode(packet))
        except import_av().FFmpegError:
            if self.entry is None or self.shown is not None or self.decoded:
                raise
            return self._give_up()
        if wanted is not None and ticks == wanted and (next_target is None or self._worth_entering(next_target)):
            self._flush()

    def _flush(self):
        self.is_flushed = True
        self._keep(self.packets.codec.decode(None))

    def _give_up(self):
        """Discards the frames since this entry: it is not a key frame, although the file marks it as one."""
        self.ahead.clear()
        self.all_read = self.is_flushed = True

    def _keep(self, frames: list):
        for frame in frames:
            if self.is_at_entry and not _can_begin_with(frame, self.packets.codec.name):
                return self._give_up()
            self.is_at_entry = False
            ticks = self.ticks_of(frame)
            if ticks is not None:
                self.inside.discard(ticks)
                self.decoded.append((ticks, frame))

    def _worth_entering(self, target: int) -> bool:
        """Returns whether to seek to a key frame: one is known closer to `target`, or decoding cannot continue."""
        if self.is_flushed and (self.ahead or not self.all_read):
            return True
        return self.packets.leads_ahead(target, self.position, len(self.ahead))

    def _enter(self, target: int, before: int | None = None):
        self._begin(self.packets.enter(target, before))

    def _begin(self, entry: int | None):
        self.entry = entry
        self.ahead, self.inside, self.decoded = deque(), set(), deque()
        self.shown, self.position = None, self.start if entry is None else entry
        self.key = self.position
        self.all_read = self.is_flushed = False
        self.is_at_entry = entry is not None  # the next frame is the key frame's

    def _to_seconds(self, ticks: int) -> float:
        return float((ticks - self.start) * self.tick_s)


def _can_begin_with(frame, codec: str) -> bool:
    """Returns whether a decoder's first frame is complete; most decoders return none with missing references."""
    return codec not in UNCHECKED_CODECS or frame.pict_type == INTRA


def to_image(frame, resize_short_side: int | None = None) -> np.ndarray:
    """Returns a decoded frame as it is displayed, uint8 `(H, W, 3)` RGB."""
    width, height = frame.width, frame.height
    if resize_short_side is not None:
        height, width = short_side_size(height, width, resize_short_side)
    options = {"format": "rgb24", "width": width, "height": height}
    if int(import_av().__version__.split(".")[0]) >= FIRST_PYAV_WITH_THREADS:
        options["threads"] = 1 if frame.width * frame.height <= SMALL_PICTURE_PX else 0  # 0: one for each core
    image = frame.to_ndarray(**options)
    return as_displayed(image, frame)


def as_displayed(image: np.ndarray, frame) -> np.ndarray:
    """Returns a picture `(H, W, C)` rotated and mirrored by the display matrix of its frame."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # A pixel at (x, y) is displayed at (a x + c y, b x + d y), up to a translation.
    a, b, _, c, d, *_ = np.frombuffer(matrix, dtype=np.int32).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Returns `(height, width)` scaled so that the shorter side is `short_side` pixels; the longer side is truncated to
    an integer."""
    scale = short_side / min(height, width)
    return max(int(height * scale), short_side), max(int(width * scale), short_side)
