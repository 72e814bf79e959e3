"""Annotated segments: one table form for every benchmark, checked where it is read.

A segment table is a pandas DataFrame with one row a segment and the columns `uid` (str), `video_id` (str), `start_s`,
`end_s` (float, seconds from the first frame), `action`, `verb`, `noun` (int, -100 where unlabelled), `narration` (str).
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from ..runs.names import file_name
from .labels import UNLABELLED, LabelSpace

logger = logging.getLogger(__name__)

SEGMENT_COLUMNS = ("uid", "video_id", "start_s", "end_s", "action", "verb", "noun", "narration")


class AnnotationError(ValueError):
    """Annotations that cannot be meant as they stand; the message names file, row and what is accepted."""


def read_csv(path: str | Path, *columns: str, header: int | None = 0) -> pd.DataFrame:
    """Returns a CSV file as text columns, stripped of the blanks that some benchmarks put after their commas.

    Args:
        path (`str` or `Path`): The file.
        columns (`str`): Columns that must be there.
        header (`int`, *optional*, defaults to 0): The line of the column names; `None`: the file has none.

    Raises:
        AnnotationError: for a file that is missing, empty, not UTF-8 or not a table, and for a missing column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True, header=header)
    except FileNotFoundError as error:
        raise AnnotationError(f"{path} does not exist: give the folder of the annotation files.") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8.") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise AnnotationError(f"{path} cannot be read as CSV: {error}") from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise AnnotationError(
            f"{path} has the columns {list(table)} and lacks {missing}: add them, or give the right file."
        )
    return table.apply(lambda column: column.str.strip())


def segment_table(source: str | Path, label_space: LabelSpace, **columns) -> pd.DataFrame:
    """Returns a checked segment table.

    Args:
        source (`str` or `Path`): Where the annotations come from, for messages.
        label_space (`LabelSpace`): The labels that `action`, `verb` and `noun` are ids of.
        columns: The columns of `SEGMENT_COLUMNS` as sequences; `verb` and `noun` default to those of the action,
            `narration` to the action's name.

    Segments of one video may overlap; how many do is logged.

    Raises:
        AnnotationError: for repeated uids, ids outside the label space, and segments that end before they start.
    """
    table = pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})
    dtypes = {"start_s": float, "end_s": float, "action": np.int64, "verb": np.int64, "noun": np.int64}
    for name in [name for name in dtypes if name in table]:
        table[name] = _numbers(source, table, name).astype(dtypes[name])
    for position, name in enumerate(("verb", "noun")):
        if name not in table:
            id_of = {action: pair[position] for action, pair in enumerate(label_space.action_to_verb_noun or ())}
            table[name] = table["action"].map(id_of).fillna(UNLABELLED).astype(np.int64)
    if "narration" not in table:
        table["narration"] = table["action"].map(dict(enumerate(label_space.actions))).fillna("")
    table = table[list(SEGMENT_COLUMNS)]
    _check(source, table, label_space)
    return table


def _numbers(source, table: pd.DataFrame, name: str) -> pd.Series:
    numbers = pd.to_numeric(table[name], errors="coerce")
    if numbers.isna().any():
        row = int(np.flatnonzero(numbers.isna())[0])
        raise AnnotationError(f"{source}, segment {row + 1}: {name} is '{table[name].iloc[row]}': give a number.")
    return numbers


def _check(source, table: pd.DataFrame, label_space: LabelSpace):
    if table.empty:
        raise AnnotationError(f"{source} holds no segments.")
    backwards = table["end_s"] < table["start_s"]
    refusals = [
        (table["uid"].duplicated(), "uid '{uid}' stands in two rows: uids must differ."),
        (backwards, "segment '{uid}' ends at {end_s} s, before it starts at {start_s} s."),
        (table["start_s"] < 0, "segment '{uid}' starts at {start_s} s: times count from the first frame."),
    ]
    sizes = {"action": len(label_space.actions), "verb": len(label_space.verbs), "noun": len(label_space.nouns)}
    for name, size in sizes.items():
        unknown = ~table[name].between(0, size - 1) & (table[name] != UNLABELLED)
        refusals.append((unknown, f"segment '{{uid}}' has {name} {{{name}}}: there are {size} {name}s."))
    for is_wrong, message in refusals:
        if is_wrong.any():
            raise AnnotationError(f"{source}: {message.format(**table[is_wrong].iloc[0])}")
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
