"""Frames of videos at a reader's rate, with features and labels."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modeling_avt.modeling_avt import AVTForAnticipation
from modeling_avt.video_io_avt import probe
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..data.past_labels import shown_actions
from ..features.extraction import encode_moments
from ..features.stores import FeatureStore

FrameSource = Callable[[str], tuple[np.ndarray, np.ndarray]]  # from a video's name to times (F,) and features (F, D)


@dataclass
class VideoFrames:
    """The frames of a video that a reader reads.

    Args:
        times_s (`np.ndarray` of shape `(F,)`): When each is shown, in seconds.
        features (`np.ndarray` of shape `(F, D)`): float32.
        labels (`np.ndarray` of shape `(F,)`): The action of each, A for the background, -100 where unknown.
    """

    times_s: np.ndarray
    features: np.ndarray
    labels: np.ndarray


def read_frames_of(
    video_ids: Iterable[str], source: FrameSource, segments: pd.DataFrame, num_actions: int
) -> dict[str, VideoFrames]:
    """Returns the frames of videos; `segments` is the segment table that labels them."""
    videos = {}
    for video_id in video_ids:
        times_s, features = source(video_id)
        videos[video_id] = VideoFrames(times_s, features, frame_labels(video_id, times_s, segments, num_actions))
    return videos


def frame_labels(video_id: str, times_s: np.ndarray, segments: pd.DataFrame, num_actions: int) -> np.ndarray:
    """Returns what a video shows at times, int64 `(F,)`: see `shown_actions`."""
    return shown_actions(np.array([video_id], dtype=object), times_s[None], segments, num_actions)[0]


def common_rate(videos: Mapping[str, VideoFrames]) -> float:
    """Returns the frames per second that all videos have.

    Raises:
        ValueError: If two videos have different rates, or none has two frames.
    """
    rates = {
        name: round(float((len(video.times_s) - 1) / (video.times_s[-1] - video.times_s[0])), 6)
        for name, video in videos.items()
        if len(video.times_s) > 1
    }
    if not rates:
        raise ValueError(
            "No training video has two frames, from which a reader's rate is known: give a higher --reader_frame_rate."
        )
    slowest, fastest = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    if rates[slowest] != rates[fastest]:
        raise ValueError(
            f"Features of '{slowest}' have {rates[slowest]:g} frames per second and those of '{fastest}' "
            f"{rates[fastest]:g}, but a reader has one rate: give --reader_frame_rate."
        )
    return rates[slowest]


def stored_frames(store: FeatureStore, frame_rate: float | None) -> FrameSource:
    """Returns the frames of a feature store at `frame_rate`, by default at the store's own."""

    def read(video_id: str) -> tuple[np.ndarray, np.ndarray]:
        features, stored_rate, start_s = store.read_all(video_id)
        rate = stored_rate if frame_rate is None else frame_rate
        times_s = start_s + np.arange(int(np.ceil(len(features) / stored_rate * rate - 1e-6))) / rate
        return times_s, features if rate == stored_rate else store.read(video_id, times_s.tolist())

    return read


def encoded_frames(
    model: AVTForAnticipation, processor: AVTVideoProcessor, videos: dict[str, str], frame_rate: float
) -> FrameSource:
    """Returns the frames of video files at `frame_rate`, encoded by a model."""

    def read(video_id: str) -> tuple[np.ndarray, np.ndarray]:
        times_s = np.arange(int(probe(videos[video_id]).duration_s * frame_rate) + 1) / frame_rate
        return times_s, encode_moments(model, processor, videos[video_id], times_s)

    return read
