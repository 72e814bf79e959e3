"""Reading a video's packets from its beginning or from a key frame.

The picture at a moment must not depend on where reading began. MP4 and Matroska files store an index and the time of
every frame, so seeking in them is exact (`IndexedPackets`). All other formats are read once without decoding
(`ScannedPackets`): some seek by decoding times or to any packet, and FFmpeg guesses missing times from preceding
packets. After a seek, packets are looked up in a table and get the times of that first pass.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .video_source_avt import VideoDecodeError, VideoSource, best_video_stream, import_av, naming_errors

INDEXED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
BYTE_SEEK_FORMATS = ("mpegts", "mpeg")
# Raw streams without a container. Their only clock is the frame rate in the codec's own header.
BARE_FORMATS = ("mpegvideo", "m4v", "h263", "h264", "hevc", "vvc", "vc1", "mjpeg", "dnxhd")
FORMATS_WITH_PAUSES = ("gif", "apng")  # a picture may stay for any length of time
KEPT_FACTS = 256  # files whose tables are cached; that of an hour of video at 25 frames/s is about 4 MB
# Pictures up to this size are decoded by one thread. On two cores a second thread is no faster and costs a third more
# processor time for waking it; when many windows are read, data loaders use several processes anyway.
SMALL_PICTURE_PX = 1280 * 720
MOST_REORDERED = 16  # frames that H.264 and HEVC may decode before one that is shown earlier; the most of any codec
GAP = 1.5  # a distance of more than this many usual frame intervals is a gap
LARGEST_HEADER = 96  # bytes between two packets of Matroska: of a cluster and a block
KEPT_SKIPS = 16
# Minimum number of frame intervals, and minimum share of equal ones, to assume a constant rate.
FEWEST_STEPS, ALIKE = (10, 0.9)
NONE = np.iinfo(np.int64).min  # a missing time in tables


class PacketTable(NamedTuple):
    """All packets of a video stream in the order of the file, `(N,)` each; times in ticks, `NONE`: not stated."""

    pts: np.ndarray
    dts: np.ndarray
    positions: np.ndarray  # in the file, in bytes
    sizes: np.ndarray
    durations: np.ndarray
    is_key: np.ndarray


@dataclass(frozen=True)
class Clock:
    """The source of a file's frame times.

    Args:
        kind (`str`): `"pts"`: each packet states when its frame begins. `"dts"`: packets state when to decode them, and
            a frame begins at the time of the packet upon which the decoder returns it, since frames are returned in
            order. `"count"`: no times; frames are counted from the beginning of the file.
        gaps (`np.ndarray`): For files of (nearly) constant frame rate, the times of frames after which others are
            missing.
    """

    kind: str = "pts"
    gaps: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.int64))


class PacketReader:
    """Packets of a file's best video stream from its first key frame on; earlier packets cannot be decoded.

    Args:
        source (`VideoSource`): The video.

    Attributes:
        container, stream, codec: PyAV's objects of the currently open file.
        tick_s (`Fraction`): Seconds per tick, the unit of all times here.
        frame_ticks (`int`): Duration of a frame by the stream's rate, in ticks.
        states_decoding_times (`bool`): Whether packets are in the order of their `dts`, none above its `pts`.
        clock (`Clock`): How frames get their times.

    Raises:
        VideoDecodeError: If the file cannot be opened, holds no video, or its clock is broken.
    """

    clock = Clock()

    def __init__(self, source: VideoSource):
        self.source, self.name = source, source.name
        self.open()

    def open(self):
        """Opens the file, or reopens it."""
        self.container = self.source.open()
        try:
            with naming_errors(self.name, "it cannot be opened"):
                self.stream = best_video_stream(self.container, self.name)
                self._prepare()
        except BaseException:
            self.container.close()
            raise

    def _prepare(self):
        """Sets up the codec of the opened stream, and begins to read."""
        self.codec = self.stream.codec_context
        is_small = self.codec.width * self.codec.height <= SMALL_PICTURE_PX
        if is_small or self.clock.kind != "pts":  # with several threads, frames come out several packets late
            self.codec.thread_count = 1
        else:
            self.stream.thread_type = "AUTO"
        self.tick_s = Fraction(self.stream.time_base)
        rate = self.stream.average_rate or self.stream.guessed_rate or 25
        self.frame_ticks = max(round(1 / (rate * self.tick_s)), 1)
        # Matroska does not store decoding times, and those that FFmpeg computes may be too late.
        self.states_decoding_times = self.container.format.name != "matroska,webm"
        self._read_from_here()

    def close(self):
        self.container.close()

    def read(self):
        """Returns the next packet, `None` at the end."""
        if self._pending is not None:
            packet, self._pending = self._pending, None
            return packet
        for packet in self._packets:
            if packet.size:  # an empty one marks the end, or a picture that stays
                return packet
        return None

    def rewind(self):
        """Returns to the first key frame of the file."""
        # Reopened: after a seek to the beginning, FFmpeg loses the negative times of Matroska's leading frames.
        self.container.close()
        self.open()

    def enter(self, target: int, before: int | None) -> int | None:
        """Seeks to the last key frame at or before `target`, and before `before` if given.

        Returns:
            The key frame's time; `None` for the first of the file.
        """
        raise NotImplementedError

    def leads_ahead(self, target: int, position: int, num_read_ahead: int) -> bool:
        """Returns whether a key frame is known between the next packet to decode and `target`.

        Args:
            target (`int`): A time.
            position (`int`): Time of the last packet that was decoded.
            num_read_ahead (`int`): How many packets were read and not decoded.
        """
        raise NotImplementedError

    def extent(self, start: int) -> tuple[int, int]:
        """Returns the number of frames from `start` on, if packets carry their times, and when the last one ends."""
        raise NotImplementedError

    def to_ticks(self, seconds: float) -> int:
        return round(seconds / self.tick_s)

    def has_lost(self, key: int, ticks: int, following: int | None = None) -> bool:
        """Returns whether frames are missing between two consecutive ones, so that the first was shown for a shorter
        time; or between the key frame at which decoding began and the first, which may refer to them.

        Args:
            key, ticks (`int`): Times of the key frame and of the first.
            following (`int`, *optional*): Time of the other, `None` to look before the first only.
        """
        raise NotImplementedError

    def clock_error(self, earlier: int, later: int) -> VideoDecodeError:
        """Returns the error for a clock that jumps back, such as after a camera restarted: times would be ambiguous."""
        before_s, after_s = float(earlier * self.tick_s), float(later * self.tick_s)
        return VideoDecodeError(
            self.name,
            f"its clock jumps back from {before_s:.3f} to {after_s:.3f} s: cut the file there, or convert it.",
        )

    def _seek(self, offset: int, **options) -> bool:
        """Seeks, and returns whether the format can."""
        try:
            self.container.seek(offset, **options)
        except (import_av().FFmpegError, OSError, ValueError, OverflowError):
            return False
        self._read_from_here()
        return True

    def _read_from_here(self):
        self._packets = self.container.demux(self.stream)
        self._pending = None


class IndexedPackets(PacketReader):
    """Packets of a format with an index and the time of every frame."""

    def __init__(self, source: VideoSource):
        super().__init__(source)
        # Seeks ahead by less than this were observed to land after the requested frame.
        self.shortest_seek = self.to_ticks(1.0)
        if self._first is None:
            raise VideoDecodeError(self.name, "it holds no key frame to begin with.")

    def _prepare(self):
        super()._prepare()
        packet = self.read()
        self.begins_at_key = packet is not None and packet.is_keyframe
        self._first: Any = packet if self.begins_at_key else self._read_key()
        self._pending = self._first

    def read(self):
        packet = super().read()
        if packet is not None and packet.dts is not None:
            # Matroska's, which FFmpeg computes, are off by a few frames after a seek: only larger jumps are errors.
            if self._last_dts is not None and self._last_dts - packet.dts > MOST_REORDERED * self.frame_ticks:
                raise self.clock_error(self._last_dts, packet.dts)
            self._last_dts = packet.dts
        return packet

    def enter(self, target: int, before: int | None) -> int | None:
        limit = target if before is None else min(target, before - 1)
        anchor, step = limit, self.to_ticks(1.0)
        while self._first.pts is not None and anchor >= self._first.pts and self._seek(anchor, stream=self.stream):
            key = self._read_key()
            if key is not None and (key.pts, key.size) == (self._first.pts, self._first.size):
                break
            # Indices hold decoding times, so the key frame found may be shown after the target.
            if key is not None and key.pts is not None and key.pts <= limit:
                self._pending = key
                self.shortest_seek = max(self.shortest_seek, 2 * (limit - key.pts))
                return key.pts
            anchor, step = anchor - step, 2 * step
        self.rewind()
        return None

    def leads_ahead(self, target: int, position: int, num_read_ahead: int) -> bool:
        if target <= position:
            return False
        index: Any = getattr(self.stream, "index_entries", ())  # PyAV has them from 17 on
        entry = index.search_timestamp(target, backward=True) if len(index) else -1
        if entry >= 0 and index[entry].timestamp > position:
            return True
        index_is_whole = self.stream.frames and len(index) >= self.stream.frames
        return not index_is_whole and target - position > self.shortest_seek

    def extent(self, start: int) -> tuple[int, int]:
        index = getattr(self.stream, "index_entries", ())
        is_whole = self.begins_at_key and self._first.pts == start and not any(entry.is_discard for entry in index)
        if self.stream.frames and is_whole and self.stream.duration:
            self.enter((self.stream.start_time or 0) + self.stream.duration, None)
            last = list(iter(self.read, None))  # the packets from the last key frame on
            if not any(packet.is_discard for packet in last):
                return self.stream.frames, self._end(last)
        self.rewind()
        shown = [p for p in iter(self.read, None) if p.pts is not None and p.pts >= start and not p.is_discard]
        return len(shown), self._end(shown)

    def has_lost(self, key: int, ticks: int, following: int | None = None) -> bool:
        if any(key < after <= ticks for after, is_gap in self._skips if is_gap):
            return True
        if following is None or following - ticks <= GAP * self.frame_ticks:
            return False
        spread = MOST_REORDERED * self.frame_ticks
        return any(ticks - spread <= after <= following + spread for after, _ in self._skips)

    def _noting_skips(self) -> Iterator:
        """Yields packets, and records those that follow bytes of no packet: FFmpeg skips damaged parts of a Matroska
        file silently, to the next cluster."""
        end, skipped, latest = None, 0, None
        for packet in self.container.demux():
            if end is not None and packet.pos is not None:
                skipped += max(packet.pos - end - LARGEST_HEADER, 0)
            end = None if packet.pos is None else packet.pos + packet.size
            if packet.stream_index != self.stream.index:
                continue
            if packet.pts is not None:
                if skipped:
                    is_gap = latest is None or packet.pts - latest > GAP * self.frame_ticks
                    self._skips.append((packet.pts, is_gap))
                latest = packet.pts if latest is None else max(packet.pts, latest)
            skipped = 0
            yield packet

    def _read_key(self):
        packet = self.read()
        while packet is not None and not packet.is_keyframe:
            packet = self.read()
        return packet

    def _end(self, packets: list) -> int:
        last, duration = max((packet.pts, packet.duration or 0) for packet in packets if packet.pts is not None)
        return last + (duration or self.frame_ticks)

    def _read_from_here(self):
        super()._read_from_here()
        self._last_dts = None
        self._skips: deque[tuple[int, bool]] = deque(
            maxlen=KEPT_SKIPS
        )  # time after each, and whether frames are missing
        if not self.states_decoding_times:  # Matroska, whose packets are contiguous
            self._packets = self._noting_skips()


class ScannedPackets(PacketReader):
    """Packets of a format without a reliable index, found by a table of all packets."""

    def __init__(self, source: VideoSource, table: PacketTable, clock: Clock):
        self.table, self.clock = table, clock
        self.times = {"pts": table.pts, "dts": table.dts, "count": np.full_like(table.dts, NONE)}[clock.kind]
        super().__init__(source)

    def _prepare(self):
        super()._prepare()
        self.next_number = 0
        first_key = int(self.table.is_key.argmax())
        while self.next_number < first_key:
            self.read()

    def read(self):
        packet = super().read()
        if packet is None:
            return None
        # The number counts the packets of the file that precede the next one.
        if self.next_number == len(self.table.sizes) or packet.size != self.table.sizes[self.next_number]:
            raise VideoDecodeError(
                self.name, "its packets differ from one read to the next: the file was changed meanwhile, so try again."
            )
        stated = (int(times[self.next_number]) for times in (self.table.pts, self.table.dts))
        packet.pts, packet.dts = (None if ticks == NONE else ticks for ticks in stated)
        self.next_number += 1
        return packet

    def enter(self, target: int, before: int | None) -> int | None:
        key = self._last_key(target if before is None else min(target, before - 1))
        # A seek may land inside a packet, and in some formats too late: retry from earlier positions.
        for earlier in (0, 1, 8, 64):
            if key is not None and key > earlier and self._seek_to(key - earlier, key):
                return int(self.times[key])
        self.rewind()
        return None

    def leads_ahead(self, target: int, position: int, num_read_ahead: int) -> bool:
        key = self._last_key(target)
        return key is not None and key > self.next_number - num_read_ahead

    def extent(self, start: int) -> tuple[int, int]:
        last = self.table.pts.argmax()
        end = self.table.pts[last] + (self.table.durations[last] or self.frame_ticks)
        return int(np.sum(self.table.pts >= start)), int(end)

    @property
    def num_packets(self) -> int:
        """Returns the number of packets from the first key frame on."""
        return len(self.table.sizes) - int(self.table.is_key.argmax())

    def has_lost(self, key: int, ticks: int, following: int | None = None) -> bool:
        # Gaps are stored as the time of the frame before them.
        gaps = self.clock.gaps
        return bool(np.any((gaps >= key) & (gaps < ticks + (following is not None))))

    def _last_key(self, limit: int) -> int | None:
        """Returns the number of the last key frame at or before a time; `None` for the first packet."""
        keys = np.flatnonzero(self.table.is_key & (self.times <= limit) & (self.times != NONE))
        return int(keys[-1]) if len(keys) and keys[-1] > 0 else None

    def _seek_to(self, number: int, key: int) -> bool:
        """Seeks near a packet of the table and reads to a key frame; returns whether the key frame was reached."""
        stated = np.flatnonzero(self.table.positions[: number + 1] != NONE)
        if self.container.format.name in BYTE_SEEK_FORMATS and len(stated):
            has_sought = self._seek(int(self.table.positions[stated[-1]]), unsupported_byte_offset=True)
        else:
            has_sought = self.table.dts[number] != NONE and self._seek(int(self.table.dts[number]), stream=self.stream)
        for packet in self._packets if has_sought else ():
            numbers = np.flatnonzero((self.table.positions == packet.pos) & (self.table.sizes == packet.size))
            if packet.pos is not None and packet.size and len(numbers) == 1:
                self._pending, self.next_number = packet, int(numbers[0])
                while self.next_number < key:
                    self.read()
                return self.next_number == key
        return False


def open_packets(source: VideoSource) -> PacketReader:
    """Returns the packet reader for a video's format, at the first packet.

    Raises:
        VideoDecodeError: see `PacketReader`.
    """
    scan = of_file(_scan, source)
    return IndexedPackets(source) if scan is None else ScannedPackets(source, *scan)


def of_file(compute: Callable, source: VideoSource):
    """Returns `compute(source)`, cached for a file on disk until the file changes."""
    return compute(source) if source.identity is None else _of_file(compute, source.identity)


@lru_cache(maxsize=KEPT_FACTS)
def _of_file(compute: Callable, identity: tuple):
    return compute(VideoSource(identity[0]))


def _scan(source: VideoSource) -> tuple[PacketTable, Clock] | None:
    """Reads a file once without decoding, and returns its table and clock; `None` for indexed formats."""
    reader = PacketReader(source)
    try:
        file_format = reader.container.format.name
        if file_format in INDEXED_FORMATS:
            return None
        with naming_errors(reader.name):
            table = _table(reader)
        return table, _clock(reader, table)
    finally:
        reader.close()


def _table(reader: PacketReader) -> PacketTable:
    rows = []
    while (packet := reader.read()) is not None:
        stated = [NONE if value is None else value for value in (packet.pts, packet.dts, packet.pos)]
        rows.append([*stated, packet.size, packet.duration or 0, packet.is_keyframe])
    pts, dts, positions, sizes, durations, is_key = np.array(rows, dtype=np.int64).reshape(len(rows), 6).T.copy()
    if not is_key.any():
        raise VideoDecodeError(reader.name, "it holds no key frame to begin with.")
    return PacketTable(pts, dts, positions, sizes, durations, is_key.astype(bool))


def _clock(reader: PacketReader, table: PacketTable) -> Clock:
    stated, file_format = table.dts[table.dts != NONE].tolist(), reader.container.format.name
    for earlier, later in pairwise(stated):
        if earlier - later > reader.frame_ticks:
            raise reader.clock_error(earlier, later)
    # AVI stores no presentation times, and those that FFmpeg guesses are not monotonic around B-frames.
    if file_format == "avi" and NONE not in table.dts:
        return Clock("dts")
    has_times = NONE not in table.pts and len(np.unique(table.pts)) == len(table.pts)
    if file_format not in BARE_FORMATS and has_times:
        return Clock("pts") if file_format in FORMATS_WITH_PAUSES else Clock("pts", _gaps(table.pts))
    if not reader.codec.framerate:
        raise VideoDecodeError(
            reader.name,
            "its frames carry no times, and it has no frame rate: remux it into a file that has, with "
            "ffmpeg -framerate RATE -i FILE -c copy out.mkv.",
        )
    _check_counts(reader, table)
    return Clock("count")


def _check_counts(reader: PacketReader, table: PacketTable):
    """Raises `VideoDecodeError` if frames must be counted but the stored times show that some are missing."""
    stated = np.flatnonzero((table.pts != NONE) & table.is_key)
    expected = table.pts[stated[:1]] + (stated - stated[:1]) * reader.frame_ticks
    if np.any(np.abs(table.pts[stated] - expected) > MOST_REORDERED * reader.frame_ticks):
        raise VideoDecodeError(
            reader.name, "not all of its frames carry times, and some frames are missing: convert it."
        )


def _gaps(pts: np.ndarray) -> np.ndarray:
    """Returns the times after which frames are missing, if nearly all other frame intervals are equal."""
    times = np.unique(pts)
    steps = np.diff(times)
    if len(steps) < FEWEST_STEPS or np.mean(np.abs(steps - np.median(steps)) <= 1) < ALIKE:
        return times[:0]
    return times[:-1][steps > GAP * np.median(steps)]
