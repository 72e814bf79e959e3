"""Opening a video from a file, its content or an open file, and choosing its video stream."""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from .versions_avt import MINIMUM_OF_VIDEOS, check_versions

# The formats that FFmpeg may open: those that contain the video. Playlists, ffconcat scripts and the like refer to
# other files, which an untrusted sender must not be able to read.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,live_flv,asf,ogg,ivf,obu,av1,h264,hevc,vvc,"
    "h263,m4v,vc1,vc1test,mjpeg,gif,apng,mxf,gxf,nut,dv,rm,wtv,dhav,yuv4mpegpipe,"
    "wav,mp3,flac,aac"  # audio only: listed so that the error is "no video"
)
FILE_PROTOCOLS, WEB_PROTOCOLS = "file", "http,https,tcp,tls,httpproxy"

CONTENT = "<bytes>"  # name of a file's content in messages
PICTURE_CODECS = ("mjpeg", "png", "bmp", "tiff", "webp")
# Raised by PyAV in addition to FFmpeg's own errors.
FOREIGN_ERRORS = (OSError, ValueError, LookupError, ArithmeticError, MemoryError, RuntimeError)


class VideoDecodeError(ValueError):
    """Raised if a video, or a moment of it, cannot be read.

    Attributes:
        path (`str`): The file, or `"<bytes>"`.
        time_s (`float` or `None`): The requested moment in seconds, if the error concerns one.
        cause (`str`): What is wrong, and what to do.
    """

    def __init__(self, path: str, cause: str, time_s: float | None = None):
        self.path, self.cause, self.time_s = path, cause, time_s
        moment = "" if time_s is None else f" at {time_s:.3f} s"
        super().__init__(f"Cannot read {path}{moment}: {cause}")

    def __reduce__(self):  # errors are pickled between the processes of data loaders
        return type(self), (self.path, self.cause, self.time_s)


class VideoSource:
    """A video that can be opened repeatedly.

    Args:
        video: A path, an `http(s)://` address, the content of a file (`bytes`, `bytearray` or `memoryview`), or a file
            open for reading bytes, which is read from its beginning and left open.

    Attributes:
        name (`str`): The video's name in messages.

    Raises:
        VideoDecodeError: If `video` is anything else.
    """

    def __init__(self, video):
        self.path = os.fspath(video) if isinstance(video, (str, os.PathLike)) else None
        self.name = self.path if self.path is not None else str(getattr(video, "name", CONTENT))
        if not is_video_source(video):
            kind = type(video).__name__
            raise VideoDecodeError(repr(video)[:80], f"it is a {kind}: give a path, bytes, or a file opened with 'rb'.")
        is_content = isinstance(video, (bytes, bytearray, memoryview))
        self.file: Any = None if self.path is not None else io.BytesIO(video) if is_content else video

    def open(self):
        """Opens the video and returns a new container.

        Raises:
            VideoDecodeError: If it cannot be opened.
        """
        options = {"format_whitelist": FORMATS, "protocol_whitelist": FILE_PROTOCOLS}
        with naming_errors(self.name, "it cannot be opened"):
            if self.file is not None:
                self.file.seek(0)
                target = self.file
            elif self._is_url:
                target, options["protocol_whitelist"] = self.path, WEB_PROTOCOLS
            else:
                target = f"file:{self.path}"  # without the prefix, FFmpeg would parse "clip: take 2.mp4" as a protocol
            try:
                # Titles need not be UTF-8. `options` would end the process for MPEG program streams (PyAV 15 to 17).
                return import_av().open(target, "r", container_options=options, metadata_errors="replace")
            except import_av().FFmpegError as error:
                if error.errno != errno.EINVAL:
                    raise
                cause = (
                    "it cannot be opened: its format is not supported, or it refers to other files, as playlists do."
                )
                raise VideoDecodeError(self.name, cause) from error

    @property
    def identity(self) -> tuple | None:
        """A key that changes with a file's path and content, for caches; `None` for sources other than files on
        disk."""
        if self.path is None or self._is_url:
            return None
        try:
            status = os.stat(self.path)
        except (OSError, ValueError):
            return None  # opening it raises the error
        return self.path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    @property
    def _is_url(self) -> bool:
        return self.path is not None and str(self.path).partition("://")[0] in ("http", "https")


def is_video_source(video) -> bool:
    """Returns whether `video` is a file, a URL or a file's content, rather than frames."""
    is_open_file = hasattr(video, "read") and hasattr(video, "seek") and not isinstance(video, io.TextIOBase)
    return isinstance(video, (str, os.PathLike, bytes, bytearray, memoryview)) or is_open_file


def best_video_stream(container, name: str):
    """Returns a container's video stream: the default one, or else the best. Covers and thumbnails do not count.

    Raises:
        VideoDecodeError: If there is no video stream, or FFmpeg does not decode its codec.
    """
    streams = [stream for stream in container.streams.video if not _is_picture(stream)]
    if not streams:
        content = "no video, only a picture" if container.streams.video else "no video"
        raise VideoDecodeError(name, f"it holds {content}.")
    best = max(streams, key=partial(_rank, container.streams.best("video")))
    if best.codec_context is None:
        raise VideoDecodeError(name, "FFmpeg does not support its codec: convert it, for example to H.264.")
    return best


def _is_picture(stream) -> bool:
    kinds = type(stream.disposition)
    return bool(stream.disposition & (kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image))


def _rank(of_ffmpeg, stream) -> tuple:
    codec = stream.codec_context
    if codec is None:
        return (False,)
    # Not all files mark covers as such.
    is_still = stream.frames == 1 or (not stream.frames and codec.name in PICTURE_CODECS)
    is_default = bool(stream.disposition & type(stream.disposition).default)
    return True, not is_still, is_default, stream is of_ffmpeg, codec.width * codec.height


@contextmanager
def naming_errors(name: str, cause: str = "decoding failed", time_s: float | None = None) -> Iterator[None]:
    """Converts errors of FFmpeg and the file system to `VideoDecodeError`, which names the file and the moment."""
    try:
        yield
    except VideoDecodeError:
        raise
    except (import_av().FFmpegError, *FOREIGN_ERRORS) as error:
        raise VideoDecodeError(name, f"{cause} ({_describe(error)}): {_advice(name, error)}.", time_s) from error


@cache
def import_av():
    try:
        import av
    except ImportError as error:
        raise ImportError("Reading video needs PyAV: `pip install av`.") from error
    check_versions(MINIMUM_OF_VIDEOS)
    return av


def _advice(name: str, error: Exception) -> str:
    if "://" in name:
        return "check the address"
    if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "correct the path"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
        return "change its permissions"
    return "give a complete video that FFmpeg can decode"


def _describe(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
