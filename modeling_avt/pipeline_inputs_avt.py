"""Conversion of the pipeline's inputs to one form: a file, or an array with or without a clock."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .numbers_avt import as_tensor
from .picture_folder_avt import PictureFolder, picture_folder
from .rules_avt import SECONDS, Number
from .temporal_avt import TIME_SLACK_S
from .video_io_avt import probe
from .video_source_avt import CONTENT, VideoSource, is_video_source


@dataclass
class VideoFile:
    """A video file, its content, or a file open for reading bytes."""

    file: Any  # `VideoContent`

    @property
    def end_s(self) -> float:
        return probe(self.file).duration_s

    @property
    def described(self) -> str:
        if (folder := picture_folder(self.file)) is not None:
            return f"the pictures in {folder.path}"
        name = VideoSource(self.file).name
        return name if name == CONTENT else f"the file {name}"


@dataclass
class VideoArray:
    """Frames, uint8 `(N, H, W, 3)` or `(N, 3, H, W)`, or features, `(N, D)`: one row for each."""

    rows: torch.Tensor

    @property
    def is_features(self) -> bool:
        return self.rows.is_floating_point()

    @property
    def described(self) -> str:
        return f"an array {str(self.rows.dtype).removeprefix('torch.')} {tuple(self.rows.shape)}"


@dataclass
class ObservedWindow(VideoArray):
    """An array without a clock, which is the observed window. `frame_mask` is `True` for real rows; `None`: all."""

    frame_mask: object = None


@dataclass
class ClockedArray(VideoArray):
    """An array whose row `i` is shown from `start_s + i / frames_per_second` on."""

    frames_per_second: float
    start_s: float = 0.0

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.rows) / self.frames_per_second

    def numbers_at(self, times_s: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Returns the number of the row shown at each time: the last that begins at or before it, also at the very
        end."""
        numbers = np.floor((times_s + TIME_SLACK_S - self.start_s) * self.frames_per_second).astype(np.int64)
        observed = times_s[mask]
        if observed.max() > self.end_s + TIME_SLACK_S:
            raise ValueError(
                f"at is {observed.max():.3f} s: {self.described} ends at {self.end_s:.3f} s, so give an earlier moment."
            )
        if numbers[mask].min() < 0:
            raise ValueError(
                f"{self.described} begins at {self.start_s:.3f} s, after {observed.min():.3f} s, which is in the "
                "observed window: give rows from 0 s on, or a later moment."
            )
        return np.minimum(numbers, len(self.rows) - 1)


def to_source(video, frames_per_second: float | None) -> VideoFile | ObservedWindow | ClockedArray:
    """Returns a video in one form; see `ActionAnticipationPipeline.__call__` for the accepted forms.

    Args:
        video: One video.
        frames_per_second (`float`, *optional*): Frame rate of an array that does not come with its own.

    Raises:
        ValueError: If `video` is not a video, or an option does not fit it.
    """
    given = dict(video) if isinstance(video, Mapping) else {"video": video}
    if set(given) == {"bytes", "path"}:  # the form of videos that `datasets` does not decode
        given = {"video": given["path"] if given["bytes"] is None else given["bytes"]}
    options = {key: given.pop(key) for key in ("frames_per_second", "start_s", "frame_mask") if key in given}
    if len(given) != 1 or not given.keys() <= {"video", "video_features"}:
        raise ValueError(
            f"A video has the keys {sorted(map(str, [*given, *options]))}: give either video or video_features, and "
            "with arrays optionally frames_per_second, start_s or frame_mask."
        )
    kind: str
    content: Any
    (kind, content), *_ = given.items()
    if kind == "video" and _is_folder(content):
        rate = options.pop("frames_per_second", frames_per_second)
        if rate is not None and not options:
            return VideoFile(PictureFolder(os.fspath(content), Number(above=0)("frames_per_second", rate)))
    if isinstance(content, PictureFolder) or (is_video_source(content) and kind == "video"):
        if options or frames_per_second is not None:
            name = next(iter(options), "frames_per_second")
            raise ValueError(
                f"{name} is given for a video file, which has its own frame rate and begins at 0 s: give it for arrays."
            )
        return VideoFile(content)
    rows = _to_rows(content, kind)
    rate, mask = options.get("frames_per_second", frames_per_second), options.get("frame_mask")
    if rate is None and options.get("start_s") is not None:
        raise ValueError("start_s is given without frames_per_second, which it needs: give both.")
    if rate is None:
        return ObservedWindow(rows, mask)
    rate = Number(above=0)("frames_per_second", rate)
    if mask is not None:
        raise ValueError(
            "frame_mask and frames_per_second are both given: a mask belongs to an array that is the observed window, "
            "so give either."
        )
    return ClockedArray(rows, rate, SECONDS("start_s", options.get("start_s", 0.0)))


def _is_folder(content) -> bool:
    return isinstance(content, (str, os.PathLike)) and os.path.isdir(content)


def _to_rows(content, kind: str) -> torch.Tensor:
    """Returns frames or features as a tensor; raises `ValueError` for anything else."""
    if isinstance(content, (list, tuple)) and content and isinstance(content[0], (np.ndarray, torch.Tensor)):
        content = as_tensor(content)
    if not isinstance(content, (np.ndarray, torch.Tensor)):
        raise ValueError(
            f"A video is a {type(content).__name__}: give a file, its bytes, frames, uint8 (N, H, W, 3), or features, "
            "floating (N, D)."
        )
    rows = as_tensor(content)
    if not rows.numel():
        raise ValueError(f"The array of shape {tuple(rows.shape)} holds no frames: give at least one.")
    is_frames = kind == "video" and is_uint8(rows) and rows.ndim == 4 and 3 in (rows.shape[1], rows.shape[3])
    if not is_frames and not (rows.is_floating_point() and rows.ndim == 2):
        raise ValueError(
            f"The array is {str(rows.dtype).removeprefix('torch.')} {tuple(rows.shape)}: give frames, uint8 (N, H, W, "
            "3) with values 0 to 255, or features, floating (N, D)."
        )
    return rows


def is_list_of_frames(videos) -> bool:
    """Whether a list holds the frames of one video, uint8 `(H, W, 3)` each, and not several videos, `(N, H, W, 3)`."""
    if not isinstance(videos, (list, tuple)) or not videos:
        return False
    return all(isinstance(row, (np.ndarray, torch.Tensor)) and row.ndim == 3 and is_uint8(row) for row in videos)


def is_uint8(array) -> bool:
    return array.dtype in (np.uint8, torch.uint8)
