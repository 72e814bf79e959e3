"""Feature stores: reading the stored features of a video at given times.

Four formats, one method, `read(video_id, times_s) -> (T, D)`:

| store | what it reads |
|---|---|
| `SafetensorsFeatureStore` | a folder with one file a video, as `write_features` writes them |
| `NpzFeatureStore` | one `.npz` file with one array a video |
| `NpyFeatureStore` | a folder with one `.npy` file `(D, N)` a video, as MS-TCN (Farha and Gall, CVPR 2019) publishes |
| `RulstmFeatureStore` | the LMDB folders that RULSTM (Furnari and Farinella, ICCV 2019) publishes and AVT trains on |

Row `i` of a video is shown from `start_s + i / frame_rate` on. Stores can be copied into the worker processes of a
`DataLoader`: they open files lazily, once per process, and pickle without open files.
"""

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from modeling_avt.numbers_avt import LARGEST
from modeling_avt.temporal_avt import REFERENCE_FEATURE_FPS, TIME_SLACK_S

from ..runs.fingerprints import archive_digest, files_digest
from ..runs.names import OTHER_SPELLING, file_name, has_other_spelling
from .files import check_times, feature_file, is_complete, open_feature_file, write_features
from .lmdb_files import SAMPLED, check_complete, check_float32, video_and_frame

__all__ = [
    "FeatureStore",
    "NpyFeatureStore",
    "NpzFeatureStore",
    "RulstmFeatureStore",
    "SafetensorsFeatureStore",
    "feature_file",
    "is_complete",
    "open_feature_store",
    "write_features",
]

MISSING = ("error", "search_back")
SEARCH_BACK_ROWS = 9  # how far the reference searches back for a missing feature
MAX_OPEN = 128


@dataclass(frozen=True)
class _Video:
    """One opened video of N rows: `row(i)` is its i-th feature `(D,)`, or `None` if that is not stored."""

    row: Callable[[int], np.ndarray | None]
    frame_rate: float
    start_s: float
    num_rows: int


class FeatureStore(ABC):
    """Base of the stores: maps times to rows, raises for gaps, and keeps open files per process.

    Args:
        path (`str` or `Path`): The store's file or folder.
        missing (`str`, *optional*, defaults to `"error"`): How to handle a time without a stored feature. `"error"`
            raises. `"search_back"` uses the nearest of the 9 rows before, else zeros, as the reference does. Videos
            without any features and features that are not finite raise in both cases.
        max_open (`int`, *optional*, defaults to 128): Number of videos kept open in each process. The least recently
            read one is closed first.

    Attributes:
        num_searched_back (`int`): Number of rows replaced by an earlier one so far in this process. Each worker of a
            `DataLoader` has its own count.
        num_zeros (`int`): Number of rows filled with zeros so far in this process.
    """

    def __init__(self, path: str | Path, missing: str = "error", max_open: int = MAX_OPEN):
        if missing not in MISSING:
            raise ValueError(f"missing is '{missing}': give one of {MISSING}.")
        if max_open < 1:
            raise ValueError(f"max_open is {max_open}: give 1 or more.")
        self.path, self.missing, self.max_open = Path(path), missing, max_open
        if not self.path.exists():
            raise ValueError(f"The feature store {self.path} does not exist: give its file or folder.")
        self.num_searched_back = self.num_zeros = 0
        self._process_id = None  # the process in which the files in `_opened` were opened

    @cached_property
    def feature_dim(self) -> int:
        """D, the width of the first stored video's features, which all others must share."""
        return self._first_width()

    def read(self, video_id: str, times_s: Sequence[float]) -> np.ndarray:
        """Returns the features shown at the given times, float32 `(T, D)`, in the order of `times_s`.

        The feature shown at a time is the last one that begins at or before it. The very end of a video still shows the
        last feature.

        Args:
            video_id (`str`): The video's name in the store.
            times_s (`Sequence[float]` of length T): Seconds on the video's clock, in any order, repetitions allowed.

        Raises:
            ValueError: If the video is not stored, a time is not stored (unless `missing="search_back"`), features are
                not finite or not D wide, or the list of times is empty.
        """
        times = np.asarray(times_s, dtype=np.float64)
        if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
            raise ValueError(f"times_s is {times_s} for video '{video_id}': give a list of seconds, at least one.")
        video = self._video(video_id, times[0])
        features = np.empty((len(times), self.feature_dim), dtype=np.float32)
        for position, (index, time_s) in enumerate(zip(_row_numbers(video, times), times, strict=True)):
            row = self._row(video, index, video_id, time_s)
            if row.shape != features.shape[1:]:
                raise ValueError(
                    f"The feature of video '{video_id}' at {time_s:.3f} s has the shape {row.shape}, but the first "
                    f"video of {self.path} has features of width {self.feature_dim}: a store holds one width."
                )
            features[position] = row
        finite = (np.abs(features) <= LARGEST).all(axis=1)  # (T,); NaN compares as False
        if not finite.all():
            raise ValueError(
                f"The feature of video '{video_id}' at {times[finite.argmin()]:.3f} s in {self.path} is not finite, or "
                "too large to compute with: extract it again."
            )
        return features

    def read_all(self, video_id: str) -> tuple[np.ndarray, float, float]:
        """Returns all features of a video, float32 `(N, D)`, its rows per second, and the time of row 0 in seconds.

        Raises:
            ValueError: See `read`.
        """
        video = self._video(video_id, 0.0)
        times = video.start_s + np.arange(video.num_rows) / video.frame_rate
        return self.read(video_id, times), video.frame_rate, video.start_s

    def content_digest(self, video_ids: Iterable[str]) -> dict[str, str]:
        """Returns short digests of the stored features by video; for an LMDB, the digest of its single file."""
        files = {video_id: self._file(video_id) for video_id in video_ids}
        return files_digest({name: path for name, path in files.items() if path.is_file()})

    def _file(self, video_id: str) -> Path:
        """Returns the file of a video, in stores with one file per video."""
        raise NotImplementedError

    @abstractmethod
    def video_ids(self) -> list[str]:
        """Returns the names of all stored videos, sorted."""

    @abstractmethod
    def _open(self, video_id: str) -> _Video:
        """Returns an opened video; raises `KeyError` if none of its features are stored."""

    @abstractmethod
    def _first_width(self) -> int:
        """Returns the width of the first stored video."""

    def _video(self, video_id: str, time_s: float) -> _Video:
        if self._process_id != os.getpid():  # after a fork: files opened by the parent must not be shared
            self._process_id, self._opened = os.getpid(), lru_cache(self.max_open)(self._open)
        try:
            return self._opened(video_id)
        except KeyError as error:
            advice = ": extract them, or leave the video out"
            if has_other_spelling(video_id, self.video_ids()):
                advice = f", but those of {OTHER_SPELLING}"
            raise ValueError(
                f"{self.path} holds no features of video '{video_id}', requested at {time_s:.3f} s{advice}."
            ) from error

    def _row(self, video: _Video, index: int, video_id: str, time_s: float) -> np.ndarray:
        row = video.row(index)
        if row is not None:
            return row
        if self.missing == "error":
            end_s = video.start_s + video.num_rows / video.frame_rate
            raise ValueError(
                f"{self.path} holds no feature of video '{video_id}' at {time_s:.3f} s (it begins at "
                f"{video.start_s:.3f} s and ends at {end_s:.3f} s): request stored times, or give "
                'missing="search_back" to fill gaps as the reference does.'
            )
        for earlier in range(index - 1, index - 1 - SEARCH_BACK_ROWS, -1):
            row = video.row(earlier)
            if row is not None:
                self.num_searched_back += 1
                return row
        self.num_zeros += 1
        return np.zeros(self.feature_dim, dtype=np.float32)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None, "_process_id": None}


class SafetensorsFeatureStore(FeatureStore):
    """A folder with one memory-mapped file per video, `<video_id>.safetensors`, of which only requested rows are read.

    See `avt_distill.features.files` for the format.

    Args:
        path (`str` or `Path`): The folder of the files, or a folder with them in its subfolder `features/`.
        missing, max_open: See `FeatureStore`.
    """

    def __init__(self, path: str | Path, missing: str = "error", max_open: int = MAX_OPEN):
        super().__init__(path, missing, max_open)
        if (self.path / "features").is_dir():
            self.path = self.path / "features"

    def _file(self, video_id: str) -> Path:
        return feature_file(self.path, video_id)

    def _open(self, video_id: str) -> _Video:
        path = self._file(video_id)
        if not path.is_file():
            raise KeyError(video_id)
        rows, frame_rate, start_s = open_feature_file(path)
        return _array_video(rows, rows.get_shape()[0], frame_rate, start_s)

    def video_ids(self) -> list[str]:
        return sorted(path.stem for path in self.path.glob("*.safetensors"))

    def _first_width(self) -> int:
        paths = sorted(self.path.glob("*.safetensors"))
        if not paths:
            raise ValueError(f"{self.path} holds no .safetensors files: extract features into it first.")
        return open_feature_file(paths[0])[0].get_shape()[1]


class _UnclockedStore(FeatureStore):
    """Base of stores whose files do not contain their rows per second, which the caller passes."""

    def __init__(
        self,
        path: str | Path,
        frame_rate: float,
        start_s: float = 0.0,
        missing: str = "error",
        max_open: int = MAX_OPEN,
    ):
        super().__init__(path, missing, max_open)
        check_times(frame_rate, start_s)
        self.frame_rate, self.start_s = float(frame_rate), float(start_s)


class NpzFeatureStore(_UnclockedStore):
    """One `.npz` file with one array `(N, D)` per video.

    A zip archive cannot be memory-mapped, so a video's array is read as a whole and kept in memory until `max_open`
    other videos have been read. For long videos prefer a folder of `.safetensors` files.

    Args:
        path (`str` or `Path`): The file.
        frame_rate (`float`): Rows per second.
        start_s (`float`, *optional*, defaults to 0.0): When row 0 of each video is shown, in seconds.
        missing, max_open: See `FeatureStore`.
    """

    def content_digest(self, video_ids: Iterable[str]) -> dict[str, str]:
        return archive_digest(self.path, video_ids)

    def _open(self, video_id: str) -> _Video:
        features = self._load(lambda archive: archive[video_id])
        if features.ndim != 2 or not features.size or features.dtype.kind != "f":
            raise ValueError(
                f"'{video_id}' in {self.path} is {features.dtype} of shape {features.shape}: store floats (N, D)."
            )
        return _array_video(features, len(features), self.frame_rate, self.start_s)

    def video_ids(self) -> list[str]:
        return self._load(lambda archive: sorted(archive.files))

    def _first_width(self) -> int:
        names = self.video_ids()
        if not names:
            raise ValueError(f"{self.path} holds no arrays: store one (N, D) for each video.")
        return len(self._video(names[0], self.start_s).row(0))

    def _load(self, take: Callable):
        """Returns `take(archive)`, opening the archive only for that, so that no open file is shared after a fork."""
        try:
            with np.load(self.path) as archive:
                return take(archive)
        except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"Cannot read {self.path} as an .npz file of plain arrays ({error}).") from error


class NpyFeatureStore(_UnclockedStore):
    """A folder with one memory-mapped file per video, `<video_id>.npy`, an array `(D, N)`: features in columns, as in
    MS-TCN.

    Args:
        path (`str` or `Path`): The folder of the files, or a folder that holds them in its `features/`.
        frame_rate (`float`): Columns per second. MS-TCN's features have 15 (Breakfast, GTEA) or 30 (50 Salads).
        start_s (`float`, *optional*, defaults to 0.0): When column 0 of each video is shown, in seconds.
        missing, max_open: See `FeatureStore`.

    Raises:
        ValueError: If files hold features in rows, `(N, D)`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not any(self.path.glob("*.npy")):
            self.path = self.path / "features"
        shapes = [self._load(video_id).shape for video_id in self.video_ids()[:2]]
        if len(shapes) == 2 and shapes[0][0] != shapes[1][0] and shapes[0][1] == shapes[1][1]:
            raise ValueError(
                f"The files in {self.path} have shapes such as {shapes[0]} and {shapes[1]}, features in rows: "
                "transpose them to (D, N), as in MS-TCN, otherwise times and features would be swapped."
            )

    def _file(self, video_id: str) -> Path:
        return self.path / f"{file_name(video_id)}.npy"

    def _open(self, video_id: str) -> _Video:
        if video_id not in self.video_ids():
            raise KeyError(video_id)
        features = self._load(video_id)
        return _array_video(features.T, features.shape[1], self.frame_rate, self.start_s)

    def video_ids(self) -> list[str]:
        return sorted(path.stem for path in self.path.glob("*.npy"))

    def _first_width(self) -> int:
        return self._load(self.video_ids()[0]).shape[0]

    def _load(self, video_id: str) -> np.ndarray:
        path = self._file(video_id)
        try:
            features = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"Cannot read {path} as an .npy file of a plain array ({error}).") from error
        if features.ndim != 2 or not features.size or features.dtype.kind != "f":
            raise ValueError(f"{path} is {features.dtype} of shape {features.shape}: store floats (D, N).")
        return features


class RulstmFeatureStore(FeatureStore):
    """RULSTM's LMDB: float32 features of frames at 30 per second, with the names of their images as keys.

    `P01_01_frame_0000000001.jpg` is the first frame of video `P01_01`, shown from 0 s on. The frame numbers of protocol
    `"avt"` (`temporal_avt.frame_indices` with `source="features"`) are those in the names: frame n is shown at `(n - 1)
    / 30` seconds.

    Args:
        path (`str` or `Path`): The LMDB folder, which holds `data.mdb`.
        missing, max_open: See `FeatureStore`. The reference uses `"search_back"`.

    Raises:
        ImportError: If lmdb is not installed.
    """

    def __init__(self, path: str | Path, missing: str = "error", max_open: int = MAX_OPEN):
        super().__init__(path, missing, max_open)
        _import_lmdb()
        if not (self.path / "data.mdb").is_file():
            raise ValueError(f"{self.path} is not an LMDB folder: give the folder that contains data.mdb.")
        self._is_checked = False

    def content_digest(self, video_ids: Iterable[str]) -> dict[str, str]:
        return files_digest({"data.mdb": self.path / "data.mdb"})

    def _open(self, video_id: str) -> _Video:
        environment = self._environment()
        prefix = f"{video_id}_frame_"
        with environment.begin() as transaction, transaction.cursor() as cursor:
            # "~" sorts after all digits, so the key before it is the video's last frame.
            found = cursor.prev() if cursor.set_range(f"{prefix}~".encode()) else cursor.last()
            last = cursor.key() if found else b""
        if not last.startswith(prefix.encode()):
            raise KeyError(video_id)

        def row(index: int) -> np.ndarray | None:
            with environment.begin() as transaction:
                content = transaction.get(f"{prefix}{index + 1:010d}.jpg".encode())
            return None if content is None else self._decode(content)

        _, num_rows = video_and_frame(last, self.path)
        return _Video(row, REFERENCE_FEATURE_FPS, 0.0, num_rows)

    def video_ids(self) -> list[str]:
        names = []
        with self._environment().begin() as transaction, transaction.cursor() as cursor:
            found = cursor.first()
            while found:
                names.append(video_and_frame(cursor.key(), self.path)[0])
                found = cursor.set_range(f"{names[-1]}_frame_~".encode())  # behind this video's last frame
        return sorted(names)

    def _first_width(self) -> int:
        with self._environment().begin() as transaction, transaction.cursor() as cursor:
            if not cursor.first():
                raise ValueError(f"{self.path} holds no features: give RULSTM's LMDB folder.")
            return len(self._decode(cursor.value()))

    def _environment(self):
        """Returns the open LMDB, after checking that its first values are float32."""
        environment = _lmdb_environment(self.path)
        if not self._is_checked:
            with environment.begin() as transaction, transaction.cursor() as cursor:
                check_float32((value for _, value in islice(cursor, SAMPLED)), self.path)
            self._is_checked = True
        return environment

    def _decode(self, content: bytes) -> np.ndarray:
        if not content or len(content) % 4:
            raise ValueError(f"{self.path} holds a value of {len(content)} bytes: features are float32, 4 bytes each.")
        return np.frombuffer(content, dtype="<f4")


def open_feature_store(
    path: str | Path,
    *,
    frame_rate: float | None = None,
    start_s: float | None = None,
    missing: str = "error",
    max_open: int = MAX_OPEN,
) -> FeatureStore:
    """Opens the feature store at `path`, choosing the class by its files.

    Args:
        path (`str` or `Path`): A folder of `.safetensors` or `.npy` files (or with these in its subfolder `features/`),
            an `.npz` file, or an LMDB folder.
        frame_rate (`float`, *optional*): Rows per second: required for `.npz` and `.npy` files, refused for others,
            which store it.
        start_s (`float`, *optional*): Time of row 0 in seconds, for `.npz` and `.npy` files only. Default: 0.
        missing, max_open: See `FeatureStore`.

    Returns:
        `FeatureStore`: The store.

    Raises:
        ValueError: If `path` is not a feature store.
    """
    path = Path(path)
    has_safetensors = _holds(path, "safetensors")
    if path.suffix == ".npz" or (_holds(path, "npy") and not has_safetensors):
        if frame_rate is None:
            raise ValueError(f"frame_rate is None, but {path} does not store its rows per second: pass frame_rate.")
        store = NpzFeatureStore if path.suffix == ".npz" else NpyFeatureStore
        return store(path, frame_rate, start_s or 0.0, missing, max_open)
    for name, value in (("frame_rate", frame_rate), ("start_s", start_s)):
        if value is not None:
            raise ValueError(f"{name} is {value}, but only .npz and .npy files need it: leave it out for {path}.")
    if (path / "data.mdb").is_file():
        return RulstmFeatureStore(path, missing, max_open)
    if has_safetensors:
        return SafetensorsFeatureStore(path, missing, max_open)
    raise ValueError(
        f"{path} is not a feature store: give a folder of .safetensors or .npy files, an .npz file or an LMDB folder."
    )


def _holds(path: Path, kind: str) -> bool:
    return any(path.glob(f"*.{kind}")) or any(path.glob(f"features/*.{kind}"))


def _array_video(rows, num_rows: int, frame_rate: float, start_s: float) -> _Video:
    return _Video(lambda i: rows[i] if 0 <= i < num_rows else None, frame_rate, start_s, num_rows)


def _row_numbers(video: _Video, times: np.ndarray) -> list[int]:
    """Returns the number of the row shown at each time; see `temporal_avt.frame_indices`."""
    since_start_s = times - video.start_s
    numbers = np.floor((since_start_s + TIME_SLACK_S) * video.frame_rate).astype(np.int64)
    is_end = np.abs(since_start_s - video.num_rows / video.frame_rate) <= TIME_SLACK_S
    return np.where(is_end, video.num_rows - 1, numbers).tolist()


_lmdb_environments = {}  # by process id and folder


def _lmdb_environment(path: Path):
    """Returns the open LMDB of a folder, one per process: LMDB forbids opening a folder twice in a process, or using it
    after a fork."""
    lmdb, key = _import_lmdb(), (os.getpid(), path.resolve())
    for inherited in [other for other in _lmdb_environments if other[0] != os.getpid()]:
        _lmdb_environments.pop(inherited).close()  # closes it in this process only; the parent's stays open
    if key not in _lmdb_environments:
        check_complete(path)
        try:
            _lmdb_environments[key] = lmdb.open(str(path), readonly=True, lock=False, readahead=False)
        except lmdb.Error as error:
            raise ValueError(f"Cannot read {path} as an LMDB folder ({error}).") from error
    return _lmdb_environments[key]


def _import_lmdb():
    try:
        import lmdb
    except ImportError as error:
        raise ImportError("Reading RULSTM's features needs lmdb: `pip install 'avt-distill[rulstm]'`.") from error
    return lmdb
