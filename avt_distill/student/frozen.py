"""Features of a frozen encoder at the observed moments of rows, computed once and stored in the folder of the run.

This is not a feature store with a regular grid, since rows observe arbitrary moments, few of which would be on a grid.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from huggingface_hub.utils import tqdm
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from modeling_avt.modeling_avt import AVTForAnticipation
from modeling_avt.temporal_avt import CLIP_CONTRACT
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..features.encoder_record import PREPROCESSING
from ..features.extraction import encode_moments
from ..features.files import SHOWS
from ..runs.folder import whole_file
from ..runs.names import file_name

# Processor fields that, together with the encoder's weights, determine the features.
OF_PROCESSOR = (*PREPROCESSING, *CLIP_CONTRACT)
OF_MODEL = ("use_predictor", "tau_a")
MAX_OPEN = 128


class FrozenFeatures:
    """Features at the observed moments of rows, with the interface of `FeatureStore` that `FeatureCollator` uses.

    Args:
        folder (`str` or `Path`): Folder with one file per video, `<video_id>.safetensors`: `ticks (U,)`, the moments in
            whole microseconds, ascending, and `features (U, D)`, float32.
        feature_dim (`int`): D, the width of the features.
    """

    def __init__(self, folder: str | Path, feature_dim: int):
        self.folder, self.feature_dim = Path(folder), feature_dim

    def read(self, video_id: str, times_s: Sequence[float] | np.ndarray) -> np.ndarray:
        """Returns the features of moments `(T,)` in seconds, float32 `(T, D)`."""
        ticks, features = _open(_file(self.folder, video_id))
        return features[np.searchsorted(ticks, as_ticks(times_s))]


def as_ticks(times_s: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns times in whole microseconds, int64."""
    return np.round(np.asarray(times_s, dtype=float) * 1e6).astype(np.int64)


def frozen_features(
    model: AVTForAnticipation,
    processor: AVTVideoProcessor,
    splits: Sequence[datasets.Dataset],
    folder: str | Path,
    shows: dict[str, str],
) -> FrozenFeatures:
    """Returns the features of all observed moments of rows, computing those that are not yet in the folder.

    Each process encodes a share of the videos. Finished videos of an interrupted run are kept.

    Args:
        model (`AVTForAnticipation`): The student, whose encoder is in evaluation mode and not trained.
        processor (`AVTVideoProcessor`): Crops the center, as in evaluation.
        splits (sequence of `datasets.Dataset`): The rows.
        folder (`str` or `Path`): Folder of the run, in which each encoder has its own subfolder.
        shows (`dict`): A digest of each video's content by id: changed videos are encoded again.

    Raises:
        VideoDecodeError: If a video cannot be read.
        ValueError: If features are not finite.
    """
    assert model.config.feature_dim is not None
    place = Path(folder) / _encoder_digest(model, processor)
    place.mkdir(parents=True, exist_ok=True)
    state, videos = PartialState(), list(_observed(splits))
    share = videos[state.process_index :: state.num_processes]
    missing = [video for video in share if not _is_complete(_file(place, video[0]), video[2], shows[video[0]])]
    is_training = model.training
    model.eval()
    for video_id, path, ticks in tqdm(missing, desc="encoding", unit="video", disable=not missing):
        features = encode_moments(model, processor, path, ticks / 1e6)
        with whole_file(_file(place, video_id)) as partial:
            partial.write_bytes(save({"ticks": ticks, "features": features}, metadata={SHOWS: shows[video_id]}))
    model.train(is_training)
    state.wait_for_everyone()
    _open.cache_clear()
    return FrozenFeatures(place, model.config.feature_dim)


def _observed(splits: Sequence[datasets.Dataset]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields id and file of each video, and its observed moments in microseconds, in order."""
    ticks_of, path_of = {}, {}
    for rows in splits:
        times, masks = np.asarray(rows["frame_times"], dtype=float), np.asarray(rows["frame_mask"], dtype=bool)
        for video_id, path, of_row, mask in zip(rows["video_id"], rows["video"], times, masks, strict=True):
            ticks_of.setdefault(video_id, []).append(as_ticks(of_row[mask]))
            path_of[video_id] = path
    for video_id in sorted(ticks_of):
        yield video_id, path_of[video_id], np.unique(np.concatenate(ticks_of[video_id]))


def _encoder_digest(model: AVTForAnticipation, processor: AVTVideoProcessor) -> str:
    """Returns what identifies an encoder and its preprocessing."""
    settings = {name: getattr(processor, name) for name in OF_PROCESSOR}
    settings |= {name: getattr(model.config, name) for name in OF_MODEL}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    backbone: Any = model.avt.backbone
    for name, weight in backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _file(folder: Path, video_id: str) -> Path:
    return folder / f"{file_name(video_id)}.safetensors"


def _is_complete(path: Path, ticks: np.ndarray, shows: str) -> bool:
    """Returns whether a file holds the features of all of these moments, of a video that has not changed."""
    try:
        with safe_open(path, "np") as file:
            return file.metadata().get(SHOWS) == shows and bool(np.isin(ticks, file.get_tensor("ticks")).all())
    except (OSError, SafetensorError):
        return False


@lru_cache(maxsize=MAX_OPEN)
def _open(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with safe_open(path, "np") as file:
        return file.get_tensor("ticks"), file.get_tensor("features")
