"""The file format of a video's features: safetensors with the tensor `features (N, D)`, float32 or float16.

Its metadata hold `frame_rate` (rows per second) and `start_s` (when row 0 is shown, in seconds), as text. Those of
`extract_features` also hold a digest of the video, `shows`.
"""

import json
import math
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from modeling_avt.numbers_avt import LARGEST

from ..runs.folder import whole_file
from ..runs.names import file_name

STORED_DTYPES = ("F32", "F16")
SHOWS = "shows"  # in a file's metadata: the digest of the video


def write_features(
    path: str | Path, features: np.ndarray, frame_rate: float, start_s: float = 0.0, *, shows: str | None = None
):
    """Writes one video's features atomically: a file that exists is complete.

    Args:
        path (`str` or `Path`): `<folder>/<video_id>.safetensors`.
        features (`np.ndarray` of shape `(N, D)`): The features. float16 is kept; other dtypes are stored as float32.
        frame_rate (`float`): Rows per second.
        start_s (`float`, *optional*, defaults to 0.0): Time of row 0 in seconds.
        shows (`str`, *optional*): A digest of the video, by which `extract_features` notices that it has changed.

    Raises:
        ValueError: If the features are empty, not two-dimensional or not finite, or the path has another suffix.
    """
    path, features = Path(path), np.asarray(features)
    features = np.ascontiguousarray(features, dtype=np.float16 if features.dtype == np.float16 else np.float32)
    check_times(frame_rate, start_s)
    if path.suffix != ".safetensors":
        raise ValueError(f"path is {path}: give <video_id>.safetensors.")
    if features.ndim != 2 or not features.size or not (np.abs(features).astype(np.float32) <= LARGEST).all():
        raise ValueError(
            f"The features for {path} have the shape {features.shape}: give finite numbers (N, D), of 1e12 at most."
        )
    metadata = {"frame_rate": repr(float(frame_rate)), "start_s": repr(float(start_s))}
    metadata |= {} if shows is None else {SHOWS: shows}
    with whole_file(path) as partial:
        # Not `save_file`, which removes the group's read permission.
        partial.write_bytes(_in_order(save({"features": features}, metadata=metadata)))


def _in_order(content: bytes) -> bytes:
    """Returns a safetensors file with sorted metadata: safetensors writes them in random order, but runs compare files
    by content."""
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:begin]), sort_keys=True, separators=(",", ":")).encode()
    return content[:8] + header.ljust(begin - 8) + content[begin:]


def feature_file(folder: str | Path, video_id: str) -> Path:
    """Returns the path of a video's features in a folder.

    Raises:
        ValueError: If the video id would lead out of the folder.
    """
    return Path(folder) / f"{file_name(video_id)}.safetensors"


def is_complete(path: str | Path) -> bool:
    """Returns whether a file of one video's features is complete."""
    try:
        open_feature_file(Path(path))
    except (ValueError, OSError):
        return False
    return True


def shown_video(path: str | Path) -> str | None:
    """Returns the digest of the video that a complete file was made from, `None` if it was not recorded."""
    with safe_open(path, framework="np") as file:
        return (file.metadata() or {}).get(SHOWS)


def open_feature_file(path: Path) -> tuple:
    """Returns a file's memory-mapped rows, their frame rate, and the time of the first row in seconds.

    Args:
        path (`Path`): `<folder>/<video_id>.safetensors`.

    Returns:
        `(rows, frame_rate, start_s)`: `rows[i]` is `(D,)`, `rows.get_shape()` `(N, D)`.

    Raises:
        ValueError: If the file is incomplete, or has another format.
    """
    try:
        file = safe_open(path, framework="np")
        rows = file.get_slice("features")
    except SafetensorError as error:
        raise ValueError(
            f"Cannot read {path}: it is not a complete file with a tensor 'features' ({error}). Extract it again."
        ) from error
    if len(rows.get_shape()) != 2 or rows.get_dtype() not in STORED_DTYPES:
        raise ValueError(
            f"'features' in {path} is {rows.get_dtype()} of shape {tuple(rows.get_shape())}: store (N, D) as one of "
            f"{STORED_DTYPES}."
        )
    metadata = file.metadata() or {}
    try:
        frame_rate, start_s = float(metadata["frame_rate"]), float(metadata["start_s"])
        check_times(frame_rate, start_s)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"The metadata of {path} are {metadata}, but frame_rate and start_s must be numbers: extract it again."
        ) from error
    return rows, frame_rate, start_s


def check_times(frame_rate: float, start_s: float):
    """Raises `ValueError` unless the rate (rows per second) is positive and finite, and the start (seconds) is
    finite."""
    if not (math.isfinite(frame_rate) and frame_rate > 0 and math.isfinite(start_s)):
        raise ValueError(
            f"frame_rate is {frame_rate} and start_s {start_s}: give rows per second, above 0, and seconds."
        )
