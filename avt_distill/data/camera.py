"""Frames of a live source: a webcam, a network camera, a video over HTTP, or a pipe.

PyAV reads and decodes in a separate thread, so that waiting for a frame can be interrupted, and frames of a camera do
not queue up while a model is running.

Only the formats and protocols listed here are opened, so that a text posing as a video (a playlist, a list of files to
concatenate) cannot make FFmpeg read other files or hosts.
"""

import errno
import logging
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

PIPE = "-"
DEVICES = ("/dev/video", "/dev/v4l/", "video=")
SCHEMES = ("rtsp", "http", "https")
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# FFmpeg's names of the containers that carry times and can be read sequentially.
FORMATS = ("mpegts", "matroska", "webm", "mov", "mp4", "flv", "mpeg", "ogg", "asf", "nut", "mpjpeg")
WITHOUT_CLOCK = "mpjpeg"  # JPEGs over HTTP, as sent by cameras: a frame's time is its arrival
NETWORK_TIMEOUT_S = 10.0
LONGEST_WAIT_S = 30.0  # for the first or next picture of any source but a pipe, whose writer may be slow
LONGEST_CLOSE_S = 1.0
QUEUED_FRAMES = 4

logger = logging.getLogger(__name__)


def is_live(source: str) -> bool:
    """Returns whether a source is for `live_frames`: a device, a URL or `-`. Anything else is the path of a file."""
    return source == PIPE or source.startswith(DEVICES) or URL.match(source) is not None


def source_name(source: str) -> str:
    """Returns the name of a source for messages and files, without the password in a URL."""
    if source == PIPE:
        return "<standard input>"
    if URL.match(source) and "@" in (host := urlsplit(source).netloc):
        return source.replace(host, host.rpartition("@")[2], 1)
    return source


def live_frames(source: str) -> Generator[tuple[np.ndarray, float], None, None]:
    """Yields the frames of a live source until it ends: uint8 `(H, W, 3)` RGB, and its time in seconds.

    The source is opened when the first frame is requested. A frame's time is its beginning, in seconds from the first
    frame on the clock of the source, which may jump. For a camera that sends JPEGs over HTTP it is the time of arrival.
    Rotation is applied.

    Frames of cameras (devices, RTSP, JPEGs over HTTP) that arrive while the caller is busy are dropped except for the
    newest, so that the caller never lags behind. Pipes and videos over HTTP wait for the caller instead, so no frame is
    dropped.

    Args:
        source (`str`): `-` for standard input, `/dev/video0` (Linux), `video=NAME` (Windows; macOS, where the name may
            be a number), or a URL: `rtsp://`, `http://` or `https://`.

    Raises:
        ValueError: At once, if the source is of another kind, or standard input is a terminal.
        VideoDecodeError: During iteration, if the source cannot be opened or holds no video; after its last frame, if
            it breaks off or cannot be decoded; and if no picture arrives for 30 s, except from a pipe.
    """
    return _frames_of(_source(source))


def _frames_of(source: "_Source") -> Generator[tuple[np.ndarray, float], None, None]:
    from modeling_avt.video_io_avt import VideoDecodeError, to_image

    decoder = _Decoder(source)
    decoder.start()
    start_s = None
    try:
        while (decoded := decoder.next_frame()) is not None:
            frame, time_s = decoded
            try:
                image = to_image(frame)
            except decoder.av.FFmpegError as error:
                raise VideoDecodeError(source.name, f"a frame cannot be shown ({error.strerror}).") from error
            start_s = time_s if start_s is None else start_s
            yield image, time_s - start_s
    finally:
        decoder.stop()


@dataclass(frozen=True)
class _Source:
    """A source and the options with which FFmpeg opens it."""

    name: str
    file: Any
    is_camera: bool = False
    options: dict[str, str] = field(default_factory=dict)
    format: str | None = None
    timeout_s: float | None = None


def _source(source: str) -> _Source:
    name, formats = source_name(source), ",".join(FORMATS)
    if source == PIPE:
        if sys.stdin.isatty():
            raise ValueError("Standard input is a terminal: pipe a video into the command, or give another source.")
        options = {"format_whitelist": formats, "protocol_whitelist": "none"}
        return _Source(name, _Pipe(sys.stdin.fileno()), options=options)
    if source.startswith(DEVICES):
        return _Source(name, *_device(source))
    scheme = urlsplit(source).scheme.lower()
    if scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValueError(
            f"{name} is not supported: give the path of a file, {known}, a device or - for standard input."
        )
    if scheme == "rtsp":
        options = {"rtsp_transport": "tcp", "timeout": f"{NETWORK_TIMEOUT_S * 1e6:.0f}"}
        options |= {"format_whitelist": "rtsp", "protocol_whitelist": "rtsp,rtp,tcp"}
        return _Source(name, source, True, options, timeout_s=NETWORK_TIMEOUT_S)
    options = {"format_whitelist": formats, "protocol_whitelist": "http,https,tcp,tls"}
    return _Source(name, source, options=options, timeout_s=NETWORK_TIMEOUT_S)


def _device(source: str) -> tuple[str, bool, dict[str, str], str]:
    if source.startswith("/dev/"):
        return source, True, {}, "v4l2"
    if sys.platform == "darwin":
        # Most cameras refuse avfoundation's default of 29.97 frames/s.
        return source.removeprefix("video="), True, {"framerate": "30"}, "avfoundation"
    if sys.platform == "win32":
        return source, True, {}, "dshow"
    raise ValueError(f"{source} names a camera on Windows or macOS: give its file here, such as /dev/video0.")


class _Pipe:
    """The interface of standard input that PyAV needs. Unbuffered, so that a waiting thread holds no lock at exit."""

    def __init__(self, file: int):
        self.file = file

    def read(self, size: int) -> bytes:
        return os.read(self.file, size)


class _Decoder(threading.Thread):
    """Decodes a source in a thread and hands over its frames: all of them, or only the newest of a camera.

    The queue holds frames with their times, and finally an error or, at the end of the source, `None`.
    """

    def __init__(self, source: _Source):
        from modeling_avt.video_source_avt import import_av

        super().__init__(name=f"decoder of {source.name}", daemon=True)
        self.av, self.source, self.is_camera = import_av(), source, source.is_camera
        self.frames: queue.Queue[tuple[av.VideoFrame, float] | Exception | None] = queue.Queue(QUEUED_FRAMES)
        self.stopped, self.was_damaged = threading.Event(), False

    def next_frame(self) -> "tuple[av.VideoFrame, float] | None":
        """Waits for the next frame, the newest one of a camera, and returns it with its time; `None` at the end.

        Raises:
            VideoDecodeError: See `live_frames`.
        """
        from modeling_avt.video_io_avt import VideoDecodeError

        until = time.monotonic() + (float("inf") if isinstance(self.source.file, _Pipe) else LONGEST_WAIT_S)
        while time.monotonic() < until:
            try:  # with a timeout, since Windows does not handle Ctrl-C during an unlimited wait
                decoded = self.frames.get(timeout=0.5)
            except queue.Empty:
                continue
            if isinstance(decoded, Exception):
                raise decoded
            return decoded
        raise VideoDecodeError(self.source.name, f"no picture arrived for {LONGEST_WAIT_S:.0f} s: check the source.")

    def stop(self):
        """Tells the thread to close the source, and waits briefly. A thread blocked in the source ends with the
        process."""
        self.stopped.set()
        self.join(LONGEST_CLOSE_S)

    def run(self):
        end: Exception | None = None
        try:
            with self._open() as container:
                for decoded in self._decode(container):
                    self._hand_over(decoded)
                    if self.stopped.is_set():
                        return
        except Exception as error:  # raised when the frames are asked for
            end = error
        self._hand_over(end)

    def _hand_over(self, decoded: "tuple[av.VideoFrame, float] | Exception | None"):
        if self.is_camera and isinstance(decoded, tuple):
            while not self.frames.empty():
                try:
                    self.frames.get_nowait()
                except queue.Empty:  # the reader has just emptied the queue
                    break
        while not self.stopped.is_set():
            try:
                return self.frames.put(decoded, timeout=0.1)
            except queue.Full:
                continue

    def _open(self) -> "InputContainer":
        source, timeout_s = self.source, self.source.timeout_s
        timeout = None if timeout_s is None else (timeout_s, timeout_s)
        try:
            return self.av.open(
                source.file,
                "r",
                source.format,
                container_options=source.options,
                timeout=timeout,
                metadata_errors="replace",
            )
        except (self.av.FFmpegError, OSError, ValueError) as error:
            raise self._error(f"it cannot be opened ({self._cause(error)}).{self._hint(error)}") from error

    def _hint(self, error: Exception) -> str:
        # Errors about data and arguments, whose names differ between releases of PyAV.
        is_of_content = isinstance(error, self.av.FFmpegError) and isinstance(error, ValueError)
        if self.source.format is not None or not is_of_content:
            return ""
        return f" Supported formats: {', '.join(FORMATS)}; mp4 in a pipe must be fragmented."

    def _decode(self, container: "InputContainer") -> "Iterator[tuple[av.VideoFrame, float]]":
        from modeling_avt.video_source_avt import best_video_stream

        stream = best_video_stream(container, self.source.name)
        has_clock = container.format.name != WITHOUT_CLOCK
        self.is_camera |= not has_clock
        is_empty = True
        for frame in self._frames(container, stream):
            is_empty = False
            if not has_clock:
                yield frame, time.monotonic()
            elif frame.pts is None or stream.time_base is None:
                raise self._error("its frames carry no times: put it into a container such as MPEG-TS or Matroska.")
            else:
                yield frame, float(frame.pts * stream.time_base)
        if is_empty:
            raise self._error("it ended before the first picture.")

    def _frames(self, container: "InputContainer", stream: "VideoStream") -> "Iterator[av.VideoFrame]":
        """Yields frames from the first key frame on. After a packet damaged in transit, frames are skipped until the
        next key frame, so the last good frame stays on display."""
        packets, state, broken = container.demux(stream), "before a key frame", None
        while True:
            try:
                packet = next((packet for packet in packets if packet.size), None)
            except (self.av.FFmpegError, OSError) as error:  # raised by FFmpeg, or by reading a pipe
                packet, broken = None, None if self._is_end(error, container) else error
            if packet is not None and packet.is_corrupt:
                self._warn_of_damage()
                stream.codec_context.flush_buffers()
                state = "damaged"
            elif packet is not None and packet.is_keyframe:
                state = "whole"
            if packet is None or state == "whole":
                try:
                    yield from (frame for frame in stream.codec_context.decode(packet) if not frame.is_corrupt)
                except self.av.FFmpegError as error:
                    self._warn_of_damage()
                    state = "damaged"
                    if not self.is_camera:  # a camera's later pictures may be fine again
                        packet, broken = None, broken or error
            if packet is None:
                break
        if broken is not None:
            raise self._error(f"it broke off ({self._cause(broken)}).") from broken
        if state == "damaged":
            raise self._error("it was damaged, and no key frame followed.")

    def _warn_of_damage(self):
        if not self.was_damaged:
            logger.warning(
                "%s has damaged data: frames are skipped until the next key frame. This warning is shown once.",
                self.source.name,
            )
        self.was_damaged = True

    def _is_end(self, error: Exception, container: "InputContainer") -> bool:
        """Returns whether an HTTP response without a length has ended normally, by closing the connection, which FFmpeg
        reports as an error."""
        is_http = isinstance(self.source.file, str) and self.source.file.lower().startswith("http")
        return is_http and isinstance(error, OSError) and error.errno == errno.EIO and container.size < 0

    def _error(self, cause: str) -> Exception:
        from modeling_avt.video_io_avt import VideoDecodeError

        return VideoDecodeError(self.source.name, cause)

    def _cause(self, error: Exception) -> str:
        if isinstance(error, self.av.error.ExitError):  # PyAV's own timeout
            return f"no data for {NETWORK_TIMEOUT_S:g} s"
        return getattr(error, "strerror", None) or str(error)
