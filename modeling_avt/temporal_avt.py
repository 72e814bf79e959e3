"""Sampling of the observed moments of a video: pure functions from seconds to seconds.

Training, evaluation, the pipeline and streaming all use these functions, so that they observe the same moments.

Two protocols:

- `"exact"`: frames at `window_end - k / frame_rate`, k = T-1..0. Moments before the window or the video begins are left
  padding, marked `False` in the mask.
- `"avt"`: the reference's arithmetic to the frame (datasets/base_video_dataset.py:537-656), for numbers that compare
  with published ones. It differs between video and pre-extracted features, spaces its times by slightly more than `1 /
  frame_rate`, and fills a short window by repeating its first frame, unmasked.

Video models see a clip at each sampled moment: L frames, `1 / clip_frame_rate` apart, the last of them shown at the
moment itself. Image models see that one frame, a clip of L = 1.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .rules_avt import Number, OrNone, WholeNumber

# Far above any practical use, and far below what exhausts memory: 65,536 frames at 1 frame/s are 18 hours, 100,000
# moments at one per second more than a day.
MAX_FRAMES = 65_536
MAX_FRAME_RATE = 1000
MAX_MOMENTS = 100_000
FRAMES_AT_ONCE = 32  # bounds memory: as many decoded frames, or images in a backbone, at a time
NUM_FRAMES = WholeNumber(least=1, most=MAX_FRAMES)
FRAME_RATE = Number(above=0, most=MAX_FRAME_RATE, unit="frames per second")
# The time contract: fields stored in a checkpoint, on which training and inference must agree.
TIME_RULES = {
    "num_frames": NUM_FRAMES,
    "frame_rate": FRAME_RATE,
    "tau_a": Number(least=0, unit="seconds"),
    "tau_o": Number(above=0, unit="seconds"),
}
TIME_CONTRACT = tuple(TIME_RULES)
# The same for the clips that the encoder sees.
CLIP_FRAME_RATE = 8.0  # about what clip models were trained at: VideoMAE at 7.5, V-JEPA 2 at 4 to 8 frames per second
CLIP_RULES = {
    "clip_num_frames": OrNone(WholeNumber(least=1, most=1024)),
    "clip_frame_rate": FRAME_RATE,
}
CLIP_CONTRACT = tuple(CLIP_RULES)
# Tolerance of comparisons, far below any frame interval: a time computed as i / fps must not fall into frame i-1 by
# rounding.
TIME_SLACK_S = 1e-6
# Feature files of RULSTM, which the reference reads, are numbered at this rate whatever the video's own rate is.
REFERENCE_FEATURE_FPS = 30.0
PROTOCOLS = ("exact", "avt")
SOURCES = ("video", "features")


@dataclass(frozen=True)
class Clips:
    """The clips that an encoder sees, one at each sampled moment.

    Args:
        num_frames (`int`, *optional*): L, the number of frames in a clip. `None`: an image model, with L = 1.
        frame_rate (`float`, *optional*, defaults to 8.0): Frames per second within a clip.
    """

    num_frames: int | None = None
    frame_rate: float = CLIP_FRAME_RATE

    @property
    def length(self) -> int:
        """L."""
        return self.num_frames or 1

    @cached_property
    def _before_s(self) -> np.ndarray:
        """Seconds from each frame of a clip to its moment, `(L,)`, oldest first."""
        return np.arange(self.length - 1, -1, -1) / self.frame_rate

    def times(self, moments_s: np.ndarray) -> np.ndarray:
        """Returns the times in seconds, `(..., L)`, of the frames of the clips that end at moments `(...)`.

        Times before the video begins are set to 0, which repeats its first frame, as in V-JEPA 2's evaluation.
        """
        return np.maximum(np.asarray(moments_s)[..., None] - self._before_s, 0.0)

    def distinct(self, moments_s: np.ndarray, mask: np.ndarray | None = None) -> "DistinctClips":
        """Returns the clips of many moments, each moment and each frame once; see `DistinctClips`.

        Args:
            moments_s (`np.ndarray` of shape `(...)`): Seconds from the first frame; distinct to the microsecond.
            mask (`np.ndarray` of bool of the same shape, *optional*): `False`: the moment is left out.
        """
        mask = np.ones(np.shape(moments_s), dtype=bool) if mask is None else mask
        ticks = np.round(moments_s * 1e6).astype(np.int64)
        moments, first = np.unique(ticks[mask], return_index=True)
        # (U, L), from the unrounded times, so that they are rounded only once.
        shown_s = self.times(moments_s[mask][first])
        frames, clips = np.unique(np.round(shown_s * 1e6).astype(np.int64), return_inverse=True)
        positions = np.where(mask, np.searchsorted(moments, ticks), 0)
        return DistinctClips(frames / 1e6, torch.from_numpy(clips.reshape(shown_s.shape)), torch.from_numpy(positions))

    def window(self, num_frames: int, frame_rate: float) -> "ClipWindow":
        """Returns which frames the clips of a window of T moments consist of; see `ClipWindow`."""
        before_s = np.arange(num_frames - 1, -1, -1)[:, None] / frame_rate + self._before_s  # (T, L)
        distinct, positions = np.unique(-np.round(before_s * 1e6).astype(np.int64), return_inverse=True)
        return ClipWindow(distinct / 1e6, torch.from_numpy(positions.reshape(before_s.shape)))


@dataclass(frozen=True)
class DistinctClips:
    """The clips of M moments, of which U are distinct, and of whose frames F are.

    Args:
        times_s (`np.ndarray` of shape `(F,)`): When the frames are shown, in order.
        clips (`torch.LongTensor` of shape `(U, L)`): The frames of each distinct moment's clip, oldest first.
        positions (`torch.LongTensor` of shape `(...)`): Which of the U each moment is; 0 if it is left out.
    """

    times_s: np.ndarray
    clips: torch.Tensor
    positions: torch.Tensor


@dataclass(frozen=True)
class ClipWindow:
    """The F distinct frames of the clips of a window of T moments, `1 / frame_rate` apart.

    Clips overlap: `pixel_values_videos (B, F, 3, H, W)` holds each of their frames once. For an image model F = T.

    Args:
        offsets_s (`np.ndarray` of shape `(F,)`): When each frame is shown, in seconds after the last moment: 0 or less.
        clips (`torch.LongTensor` of shape `(T, L)`): The frames of each moment's clip.
    """

    offsets_s: np.ndarray
    clips: torch.Tensor

    def times(self, moments_s: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns when the window's frames are shown, `(F,)` in seconds, and which of them observed moments need.

        Args:
            moments_s (`np.ndarray` of shape `(T,)`): The moments, of `sample_frame_times`.
            mask (`np.ndarray` of bool, `(T,)`): Which of them are observed.

        Raises:
            ValueError: If clips have several frames and the moments are not evenly spaced, as those of protocol
                `"avt"`.
        """
        if self.clips.shape[1] == 1:
            return moments_s, mask
        spaced_s = moments_s[-1] + self.offsets_s[self.clips[:, -1]]
        if np.abs(spaced_s - moments_s)[mask].max() > TIME_SLACK_S:
            raise ValueError(
                "The sampled moments are not evenly spaced, as under protocol 'avt': video models need "
                "protocol='exact'."
            )
        needed = np.isin(np.arange(len(self.offsets_s)), self.clips[torch.from_numpy(mask)])
        return np.maximum(moments_s[-1] + self.offsets_s, 0.0), needed


def observed_window(start_s: float, tau_a: float, tau_o: float) -> tuple[float, float]:
    """Returns the observed window `(start, end)` of an action, `[start_s - tau_a - tau_o, start_s - tau_a]`.

    Args:
        start_s (`float`): When the action starts, in seconds from the first frame.
        tau_a (`float`): Seconds between the end of the window and the start of the action.
        tau_o (`float`): Length of the window in seconds.

    The start is negative if the window begins before the video. An end before the first frame raises when frames are
    sampled.
    """
    end_s = start_s - tau_a
    return end_s - tau_o, end_s


def checked_every(every: Any) -> float:
    """Checks and returns the number of seconds between two moments of a timeline or stream.

    Raises:
        ValueError: If `every` is not a number above 0, or moments would be closer together than frames ever are.
    """
    every = Number(above=0, unit="seconds")("every", every)
    if every < 1 / MAX_FRAME_RATE:
        raise ValueError(
            f"every is {every:g}, which would be {1 / every:,.0f} moments per second of video: at most "
            f"{MAX_FRAME_RATE:,} are supported, so give {1 / MAX_FRAME_RATE:g} s or more."
        )
    return every


def timeline_moments(end_s: float, every: float, start_s: float = 0.0) -> list[float]:
    """Returns the moments of a timeline in seconds: `start_s + every`, `start_s + 2 * every` and so on, up to the end.

    Raises:
        ValueError: If the video is shorter than `every`, or holds more than `MAX_MOMENTS` moments.
    """
    every, length_s = checked_every(every), end_s - start_s
    count = int(length_s / every + 1e-6)
    if not count:
        begins = f"begins at {start_s:.3f} s and " if start_s else ""
        raise ValueError(f"every={every} is longer than the video, which {begins}ends at {end_s:.3f} s: give less.")
    if count > MAX_MOMENTS:
        enough_s = math.ceil(1000 * length_s / MAX_MOMENTS) / 1000
        raise ValueError(
            f"every={every:g} would be {count:,} moments in a video that ends at {end_s:g} s: at most {MAX_MOMENTS:,} "
            f"are supported, so give {enough_s:g} s or more."
        )
    return (start_s + np.arange(1, count + 1) * every).tolist()


def sample_frame_times(
    window_start_s: float,
    window_end_s: float,
    video_fps: float,
    frame_rate: float,
    num_frames: int,
    protocol: str = "exact",
    source: str = "video",
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sampled times in seconds, float64 `(T,)`, oldest first, and their mask, bool `(T,)`.

    Args:
        window_start_s, window_end_s (`float`): The observed window, in seconds from the first frame.
        video_fps (`float`): The video's frames per second. Used by protocol `"avt"` for video only.
        frame_rate (`float`): Frames sampled per second.
        num_frames (`int`): T, the number of frames.
        protocol (`str`, *optional*, defaults to `"exact"`): `"exact"` or `"avt"`: see the module's docstring.
        source (`str`, *optional*, defaults to `"video"`): `"video"` or `"features"`; matters to protocol `"avt"` only.

    The mask is `False` for left padding, whose nominal times lie before the window or the video. Under `"avt"` it is
    `True` throughout.

    Raises:
        ValueError: If the window ends before the first frame, or a value is out of range.
    """
    times, mask, _ = sample_frames(window_start_s, window_end_s, video_fps, frame_rate, num_frames, protocol, source)
    return times, mask


def frame_indices(
    window_start_s: float,
    window_end_s: float,
    video_fps: float,
    frame_rate: float,
    num_frames: int,
    protocol: str = "exact",
    source: str = "video",
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of the sampled frames, int64 `(T,)`, oldest first, and their mask, bool `(T,)`.

    Arguments, mask and errors are those of `sample_frame_times`. Numbers count from 0 at `video_fps`: the frame that is
    shown at each sampled time. Under `"avt"` with `source="features"` they count from 1 at 30 fps, as the frame names
    of RULSTM's feature files do. Padding has number 0.
    """
    _, mask, indices = sample_frames(window_start_s, window_end_s, video_fps, frame_rate, num_frames, protocol, source)
    return indices, mask


def sample_frames(
    window_start_s: float,
    window_end_s: float,
    video_fps: float,
    frame_rate: float,
    num_frames: int,
    protocol: str = "exact",
    source: str = "video",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the times of `sample_frame_times`, the mask, and the numbers of `frame_indices`, `(T,)` each, at once."""
    video_fps = Number(above=0, unit="frames per second")("video_fps", video_fps)
    frame_rate = FRAME_RATE("frame_rate", frame_rate)
    num_frames = NUM_FRAMES("num_frames", num_frames)
    if not window_start_s < window_end_s:
        raise ValueError(
            f"The window from {window_start_s} s to {window_end_s} s is empty: its start must be before its end."
        )
    if protocol not in PROTOCOLS or source not in SOURCES:
        raise ValueError(
            f"protocol is '{protocol}' and source '{source}': give one of {PROTOCOLS} and one of {SOURCES}."
        )
    # The AVT reference keeps windows that end at or after 1/30 s (drop_style "correct", base_video_dataset.py:105).
    earliest_s = -TIME_SLACK_S if protocol == "exact" else 1 / 30
    if window_end_s < earliest_s:
        raise ValueError(f"The window ends at {window_end_s:.3f} s, before the first frame: leave this action out.")
    if protocol == "exact":
        return _sample_exact(window_start_s, window_end_s, video_fps, frame_rate, num_frames)
    if source == "features":
        return _sample_like_avt(
            window_start_s, window_end_s, REFERENCE_FEATURE_FPS, frame_rate, num_frames, _feature_frames
        )
    return _sample_like_avt(window_start_s, window_end_s, video_fps, frame_rate, num_frames, _video_frames)


def _sample_exact(window_start_s, window_end_s, video_fps, frame_rate, num_frames):
    times = window_end_s - np.arange(num_frames - 1, -1, -1) / frame_rate
    mask = times >= max(window_start_s, 0.0) - TIME_SLACK_S
    indices = np.floor((times + TIME_SLACK_S) * video_fps).astype(np.int64)
    return times, mask, np.where(mask, np.maximum(indices, 0), 0)


def _sample_like_avt(window_start_s, window_end_s, fps, frame_rate, num_frames, frames_between):
    start_s, end_s = max(window_start_s, 0.0), max(window_end_s, 0.0)
    # The clip's last frames that suffice for T frames; int() truncates toward 0, as in the reference.
    available = int(fps * (end_s - start_s))
    needed = round(num_frames * fps / frame_rate)
    first = max(available - needed, 0)
    clip_start_s = start_s + first / fps
    clip_end_s = min(end_s, start_s + (first + needed) / fps)

    frames = frames_between(clip_start_s, clip_end_s, fps)
    if not len(frames):
        raise ValueError(f"The window from {window_start_s:.3f} s to {window_end_s:.3f} s holds no frame at {fps} fps.")
    # As in the reference, times are spread evenly over the clip, both ends included, whatever the frames' own times
    # are. torch's float32 rounding decides which of two touching segments labels a frame, so numpy's linspace would not
    # do.
    times = torch.linspace(clip_start_s, clip_end_s, len(frames), dtype=torch.float32).double().numpy()
    step = round(fps / frame_rate)
    frames, times = frames[::-1][::step][:num_frames][::-1], times[::-1][::step][:num_frames][::-1]
    missing = num_frames - len(frames)
    frames, times = np.pad(frames, (missing, 0), mode="edge"), np.pad(times, (missing, 0), mode="edge")
    return times, np.ones(num_frames, dtype=bool), frames.astype(np.int64)


def _feature_frames(start_s: float, end_s: float, fps: float) -> np.ndarray:
    """Returns the numbers of feature frames in `(start_s, end_s]`, from 1."""
    return np.maximum(np.arange(math.floor(start_s * fps) + 1, math.floor(end_s * fps) + 1), 1)


def _video_frames(start_s: float, end_s: float, fps: float) -> np.ndarray:
    """Returns the numbers of video frames in `[start_s, end_s]`, from 0."""
    return np.arange(math.ceil(start_s * fps - TIME_SLACK_S), math.floor(end_s * fps + TIME_SLACK_S) + 1)
