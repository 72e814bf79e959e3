"""Parquet tables of one vector per uid: the common base of score tables and soft-label tables."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from ..data.labels import LabelSpace
from ..runs.folder import whole_file

LABEL_SPACE_HASH = "label_space_hash"
MAKERS = {"score table": "distill", "soft-label table": "export_soft_labels"}
# Patterns of generated uids of user data (see `data.benchmarks.own_data`), and of those by earlier versions.
OF_START, COUNTED = re.compile(r".+_\d+\.\d{3}(_[0-9a-f]{8})?(_\d+)?"), re.compile(r".+_\d+")
UIDS_CHANGED = (
    "; earlier versions numbered the rows of user data, whose uids are now <video>_<start>: write the older file "
    "again with this version"
)


def note_on_uids(first: Iterable[str], second: Iterable[str]) -> str:
    """Returns an addition to messages about different rows if one side has numbered uids, as earlier versions wrote.

    Args:
        first, second (iterables of `str`): The uids of each side.
    """
    sides = [list(first), list(second)]
    is_new = [any(map(OF_START.fullmatch, uids)) for uids in sides]
    is_old = [len(uids) > 0 and all(map(COUNTED.fullmatch, uids)) for uids in sides]
    return UIDS_CHANGED if (is_new[0] != is_new[1]) and is_old[is_new.index(False)] else ""


def check_vectors(name: str, uids: Sequence, vectors: np.ndarray, *, harm: str) -> tuple[list[str], np.ndarray]:
    """Returns the uids as text, and the vectors as contiguous float32 `(N, A)`.

    Args:
        name (`str`): Name of the vectors, for messages.
        uids (`Sequence`): Name of each row, all different.
        vectors (`np.ndarray` of shape `(N, A)`): One row per uid.
        harm (`str`): The effect of a NaN, for the message.

    Raises:
        ValueError: If a uid is repeated, the shape is wrong, there are no rows, or a number is not finite in float32.
    """
    uids = [str(uid) for uid in uids]
    with np.errstate(over="ignore"):  # refused below, by uid
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if len(set(uids)) < len(uids):
        known = set()
        repeated = next(uid for uid in uids if uid in known or known.add(uid))
        raise ValueError(f"uids has '{repeated}' more than once: give each row a uid of its own.")
    if vectors.ndim != 2 or vectors.shape[0] != len(uids) or 0 in vectors.shape:
        raise ValueError(f"{name} has shape {vectors.shape} for {len(uids)} uids: give (N, A), one row per uid.")
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        uid = uids[int(np.argmin(finite))]
        raise ValueError(
            f"{name} of '{uid}' are not finite in float32: {harm}, so give finite {name}. A model returns NaN or "
            "infinity if its weights or its input are not finite, or if float16 overflows: load it in float32 or "
            "bfloat16."
        )
    return uids, vectors


def check_label_space(name: str, num_actions: int, metadata: dict[str, str], label_space: LabelSpace):
    """Raises a `ValueError` unless the metadata record this label space and the number of columns matches it."""
    found = metadata.get(LABEL_SPACE_HASH)
    if found != label_space.content_hash or num_actions != len(label_space.actions):
        raise ValueError(
            f"The {name} are of {num_actions} actions of label space {found}, not of the {len(label_space.actions)} "
            f"of {label_space.content_hash}: columns would stand for other actions, so give a file of this label "
            "space."
        )


def write_table(path: str | Path, columns: dict[str, list | np.ndarray], metadata: dict[str, str]):
    """Writes columns atomically as Parquet: lists as text, vectors `(N,)` as numbers, `(N, A)` as lists."""
    table = pyarrow.table({name: _to_arrow(values) for name, values in columns.items()})
    with whole_file(path) as partial:
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), partial)


def _to_arrow(values: list | np.ndarray) -> pyarrow.Array:
    if isinstance(values, list):
        return pyarrow.array(values, type=pyarrow.string())
    if values.ndim == 2:
        return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])
    return pyarrow.array(values)


def read_table(
    path: str | Path, kind: str, names: tuple[str, ...], *, optional: tuple[str, ...] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the columns of a file written by `write_table`, a list of uids and arrays, and its metadata.

    Args:
        path (`str` or `Path`): The Parquet file.
        kind (`str`): The expected kind of file, for messages, such as `"score table"`.
        names (`tuple[str, ...]`): The required columns; the first is `uid`, the last holds the vectors.
        optional (`tuple[str, ...]`, *optional*): Further columns, either all present or none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not Parquet, is damaged, has other columns, or lacks values.
    """
    if not Path(path).is_file():
        fault = "is a folder" if Path(path).is_dir() else "does not exist"
        raise FileNotFoundError(f"'{path}' {fault}: give a {kind} that avt-distill {MAKERS[kind]} wrote.")
    try:
        # Not `read_table`, which also accepts folders and infers partitions from their names.
        table = pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None) is not None:  # an error of the operating system: no such file, no permission
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a Parquet file ({reason}): give a complete {kind}.") from error
    vectors = names[-1]
    if set(optional) <= set(table.column_names):
        names = (*names[:-1], *optional, vectors)
    if sorted(table.column_names) != sorted(names) or not pyarrow.types.is_fixed_size_list(
        table.schema.field(vectors).type
    ):
        raise ValueError(
            f"{path} has columns {table.column_names}: give a {kind}, with {list(names)}, {vectors} in lists of one "
            "fixed size."
        )
    columns = {name: table[name].combine_chunks() for name in names}
    size, flat = columns[vectors].type.list_size, columns[vectors].flatten()
    if any(column.null_count for column in [*columns.values(), flat]):
        raise ValueError(f"{path} has empty cells: give a {kind} without missing values.")
    arrays = {name: columns[name].to_numpy(zero_copy_only=False) for name in names[1:-1]}
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return {"uid": columns["uid"].to_pylist(), **arrays, vectors: flat.to_numpy().reshape(len(table), size)}, metadata
