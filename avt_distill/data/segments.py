"""Annotated segments: a common table for all benchmarks, checked when it is read.

A segment table is a pandas DataFrame with one row per segment and the columns `uid` (str), `video_id` (str), `start_s`,
`end_s` (float, seconds from the first frame), `action`, `verb`, `noun` (int, -100 where unlabeled), `narration` (str).
"""

import csv
import gzip
import io
import json
import logging
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import numpy as np
import pandas as pd

from modeling_avt.temporal_avt import TIME_SLACK_S

from ..runs.names import file_name
from .labels import UNLABELLED, LabelSpace

logger = logging.getLogger(__name__)

SEGMENT_COLUMNS = ("uid", "video_id", "start_s", "end_s", "action", "verb", "noun", "narration")
LINE = "line"  # name of the index of what `read_csv` returns: each row's line in the file


class AnnotationError(ValueError):
    """Raised for inconsistent annotations. The message names file, row and what is accepted."""


def is_before(time_s: Any, other_s: Any) -> Any:
    """Returns whether times are before others, elementwise.

    Times that differ by at most a microsecond are equal: rounding of a computed time, such as `start_s - tau_a`, must
    not decide whether a segment that begins or ends exactly then counts.
    """
    return time_s < other_s - TIME_SLACK_S


def read_csv(path: str | Path, *columns: str, header: int | None = 0) -> pd.DataFrame:
    """Reads a CSV file as stripped text columns. The index, `line`, is the line number in the file.

    Args:
        path (`str` or `Path`): The file, compressed if its name ends in `.gz`.
        columns (`str`): Required columns.
        header (`int`, *optional*, defaults to 0): The line of the column names, 0; `None`: the file has none.

    Raises:
        AnnotationError: If the file is missing, empty, not UTF-8 or not a table; if a line has more or fewer fields
            than the first; or if a column is missing or duplicated.
    """
    try:
        numbered = list(_csv_lines(path))
    except csv.Error as error:
        raise AnnotationError(f"{path} cannot be read as CSV ({error}): correct it.") from error
    if not numbered:
        raise AnnotationError(f"{path} cannot be read as CSV: it is empty. Give the file as published.")
    first = numbered[0][1]
    for line, fields in numbered:
        if len(fields) != len(first):
            raise AnnotationError(
                f"{path}, line {line} has {len(fields)} fields, but the first line has {len(first)}: remove trailing "
                "commas, quote values that contain commas, or fill in missing values."
            )
    names: list = list(range(len(first))) if header is None else _column_names(path, first)
    lines, rows = zip(*numbered[header is not None :], strict=True) if numbered[header is not None :] else ((), ())
    missing = [name for name in columns if name not in names]
    if missing:
        raise AnnotationError(f"{path} has the columns {names} and lacks {missing}: add these, or give the right file.")
    return pd.DataFrame(list(rows), columns=names, index=pd.Index(lines, name=LINE), dtype=str)


@contextmanager
def _open_annotations(path: str | Path) -> Iterator[TextIO]:
    """Opens a text file, compressed or not; raises `AnnotationError` if it cannot be read, within the block too."""
    try:
        with gzip.open(path) if str(path).endswith(".gz") else open(path, "rb") as stored:
            # "utf-8-sig" removes the byte order mark that spreadsheets write.
            yield io.TextIOWrapper(cast(BinaryIO, stored), encoding="utf-8-sig", newline="")
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise AnnotationError(f"{path} is damaged or incomplete ({error}): download it again.") from error
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise AnnotationError(f"{path} {reason}: give the folder of the annotation files.") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8.") from error


def read_annotation_json(path: str | Path) -> Any:
    """Returns the content of a JSON file, which is compressed if its name ends in `.gz`.

    Raises:
        AnnotationError: If the file is missing, damaged or not JSON.
    """
    with _open_annotations(path) as file:
        text = file.read()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path} is not JSON ({error}): download it again.") from error


def column_numbers(path: str | Path, table: pd.DataFrame, name: str, *, whole: bool = True) -> list:
    """Returns a column of a table from `read_csv` as numbers.

    Args:
        path (`str` or `Path`): The file that the table was read from, for messages.
        table (`pd.DataFrame`): The table.
        name (`str`): The column.
        whole (`bool`, *optional*, defaults to `True`): Whether they are whole numbers.

    Raises:
        AnnotationError: If one is not such a number. The message names its line.
    """
    numbers = _numbers(path, table.index, table, name, whole=whole)
    return (numbers.astype(np.int64) if whole else numbers).tolist()


def first_existing(folder: Path, *names: str) -> Path | None:
    """Returns the path of the first of several names that exists in a folder, or `None`."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def frame_seconds(frames: pd.Series, fps: float) -> pd.Series:
    """Converts frame numbers, which may be text, to seconds; invalid ones become NaN, which `segment_table` refuses."""
    return pd.Series(np.asarray(pd.to_numeric(frames, errors="coerce"), dtype=float) / fps, index=frames.index)


def train_and_test(source: str | Path, segments: pd.DataFrame, test_videos: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Returns the segment tables of `"train"` and `"test"`, divided by video.

    Raises:
        AnnotationError: If one of them has no segments.
    """
    is_test = segments["video_id"].isin(list(test_videos))
    splits = {"train": segments.loc[~is_test], "test": segments.loc[is_test]}
    for split, table in splits.items():
        if table.empty:
            raise AnnotationError(f"{source} leaves no segments in '{split}': add the annotations of its videos.")
    return {split: table.reset_index(drop=True) for split, table in splits.items()}


def label_runs(labels: Iterable) -> Iterator[tuple[Any, int, int]]:
    """Yields each run of equal labels of consecutive frames: the label, its first frame, and the one after its last."""
    first = 0
    for label, run in groupby(labels):
        end = first + sum(1 for _ in run)
        yield label, first, end
        first = end


def _csv_lines(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each line that is not blank, where it begins, and its fields."""
    with _open_annotations(path) as file:
        reader, begins = csv.reader(file, skipinitialspace=True, strict=True), 1
        for fields in reader:
            if any(fields) or len(fields) > 1:
                yield begins, [field.strip() for field in fields]
            begins = reader.line_num + 1


def _column_names(path: str | Path, names: list[str]) -> list[str]:
    """Returns the column names; a column without a name, such as row numbers, is named by its position."""
    repeated = sorted(name for name, count in Counter(names).items() if name and count > 1)
    if repeated:
        raise AnnotationError(f"{path} names the column '{repeated[0]}' twice: rename or remove one.")
    return [name or f"column {number}" for number, name in enumerate(names, start=1)]


def check_spellings(path: str | Path, table: pd.DataFrame, columns: Iterable[str]):
    """Raises `AnnotationError` if names in a column look the same but consist of different Unicode characters.

    Args:
        path (`str` or `Path`): The file that the table was read from, for messages.
        table (`pd.DataFrame`): See `read_csv`.
        columns (`Iterable[str]`): The columns that hold names; missing ones are ignored.

    Raises:
        AnnotationError: If one name is spelled in two ways, such as with "é" as one character and as two.
    """
    for column in [name for name in columns if name in table]:
        first_of = table[column].drop_duplicates()
        first_lines: dict[str, tuple] = {}
        for line, name in first_of[~first_of.map(str.isascii)].items():
            earlier_line, earlier = first_lines.setdefault(unicodedata.normalize("NFC", name), (line, name))
            if earlier != name:
                raise AnnotationError(
                    f"{path}, line {line}: the {column} '{name}' looks like the one in line {earlier_line}, but "
                    "consists of other Unicode characters (NFC and NFD): spell both alike, otherwise they count as "
                    "two names."
                )


def segment_table(source: str | Path, label_space: LabelSpace, **columns) -> pd.DataFrame:
    """Builds a segment table from columns and checks it.

    Args:
        source (`str` or `Path`): Where the annotations come from, for messages.
        label_space (`LabelSpace`): The labels that `action`, `verb` and `noun` are ids of.
        columns: The columns of `SEGMENT_COLUMNS` as sequences; `verb` and `noun` default to those of the action,
            `narration` to the action's name. Messages name the lines of columns that `read_csv` returned.

    Segments of one video may overlap; the number of overlapping ones is logged.

    Raises:
        AnnotationError: If a uid is blank or repeated, a video id is blank, an id is outside the label space, a time is
            not finite, or a segment ends before it starts.
    """
    lines = _lines(columns.values())
    table = pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})
    dtypes = {"start_s": float, "end_s": float, "action": np.int64, "verb": np.int64, "noun": np.int64}
    for name in [name for name in dtypes if name in table]:
        table[name] = _numbers(source, lines, table, name, whole=dtypes[name] is np.int64).astype(dtypes[name])
    for position, name in enumerate(("verb", "noun")):
        if name not in table:
            id_of = {action: pair[position] for action, pair in enumerate(label_space.action_to_verb_noun or ())}
            table[name] = table["action"].map(id_of).fillna(UNLABELLED).astype(np.int64)
    if "narration" not in table:
        table["narration"] = table["action"].map(dict(enumerate(label_space.actions))).fillna("")
    table = table[list(SEGMENT_COLUMNS)]
    _check(source, lines, table, label_space)
    return table


def _lines(columns: Iterable) -> pd.Index | None:
    """Returns each row's line number in the file if the columns come from `read_csv`, else `None`."""
    indexes = (values.index for values in columns if isinstance(values, pd.Series) and values.index.name == LINE)
    return next(indexes, None)


def _numbers(source, lines: pd.Index | None, table: pd.DataFrame, name: str, *, whole: bool) -> np.ndarray:
    numbers = np.asarray(pd.to_numeric(table[name], errors="coerce"), dtype=float)
    is_wrong = ~np.isfinite(numbers) | (whole & (np.mod(np.nan_to_num(numbers), 1) != 0))
    if is_wrong.any():
        row = int(np.flatnonzero(is_wrong)[0])
        accepted = "a number" if np.isnan(numbers[row]) else "a whole number" if whole else "a finite number"
        place = f"segment {row + 1}" if lines is None else f"line {lines[row]}"
        raise AnnotationError(f"{source}, {place}: {name} is '{table[name].iloc[row]}': give {accepted}.")
    return numbers


def _check(source, lines: pd.Index | None, table: pd.DataFrame, label_space: LabelSpace):
    if table.empty:
        raise AnnotationError(f"{source} holds no segments: give a file with at least one.")
    refusals = [
        (_is_blank(table["video_id"]), "segment {number} has no video_id: name the video of each."),
        (_is_blank(table["uid"]), "segment {number} has no uid: name each, or leave out the column uid."),
        (table["uid"].duplicated(), "uid '{uid}' is in two rows: uids must be unique."),
        (table["end_s"] < table["start_s"], "segment '{uid}' ends at {end_s} s, before it starts at {start_s} s."),
        (table["start_s"] < 0, "segment '{uid}' starts at {start_s} s: times count from the first frame."),
    ]
    sizes = {"action": len(label_space.actions), "verb": len(label_space.verbs), "noun": len(label_space.nouns)}
    for name, size in sizes.items():
        unknown = ~table[name].between(0, size - 1) & (table[name] != UNLABELLED)
        refusals.append((unknown, f"segment '{{uid}}' has {name} {{{name}}}: there are {size} {name}s."))
    for is_wrong, message in refusals:
        if is_wrong.any():
            row = int(np.flatnonzero(is_wrong)[0])
            place = source if lines is None else f"{source}, line {lines[row]}"
            raise AnnotationError(f"{place}: {message.format(number=row + 1, **table.iloc[row])}")
    for video_id in table["video_id"].unique():  # features and videos are files of these names
        try:
            file_name(str(video_id))
        except ValueError as error:
            raise AnnotationError(f"{source}: {error}") from error
    ordered = table.sort_values(["video_id", "start_s"], kind="stable")
    latest_end_s = ordered.groupby("video_id")["end_s"].cummax()
    overlapping = int((ordered["start_s"] < latest_end_s.groupby(ordered["video_id"]).shift()).sum())
    if overlapping:
        logger.info(
            "%s: %d of %d segments begin before an earlier one of their video ends.", source, overlapping, len(table)
        )


def _is_blank(names: pd.Series) -> pd.Series:
    return names.isna() | names.astype(str).str.strip().eq("")
