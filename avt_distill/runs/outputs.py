"""What a command may write over: never one of its inputs, and of other files only those that it made itself.

Every command asks here, before it does its work, for each output that the user names.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

STDOUT = "-"
MARKED = 1 << 20  # bytes at either end of a picture or video that are searched for its mark
OVERWRITE = "replace files of that name that this command did not make"

Inputs = Mapping[str, Any]  # by option: a path, several, or None


def nothing(path: Path) -> bool:
    """Says of any file that this command did not make it."""
    return False


def check_output(
    option: str,
    path: str | Path | None,
    inputs: Inputs,
    *,
    overwrite: bool = False,
    made_here: Callable[[Path], bool] = nothing,
    writes: Iterable[str] | None = None,
):
    """Refuses an output that would replace an input, or a file that this command did not make.

    Args:
        option (`str`): Name of the option, for messages.
        path (`str`, `Path` or `None`): File or, with `writes`, folder to write. `None` and `-` are no files.
        inputs (`Mapping`): What the command reads, by option: paths, lists of paths, `None`. What is not there, such as
            the name of a model on the Hub, is left out.
        overwrite (`bool`, *optional*): Whether files that this command did not make may be replaced; inputs never are.
        made_here (`Callable`, *optional*): From an existing file (or folder) to whether an earlier call of this command
            made it, so that the command can be run again.
        writes (iterable of `str`, *optional*): Names of the files that the command writes in a folder.

    Raises:
        ValueError: If the output may not be written.
    """
    if path is None or str(path) == STDOUT:
        return
    path = Path(path)
    for name, value in inputs.items():
        for given in value if isinstance(value, list | tuple) else [value]:
            if given is not None and os.path.exists(given) and _replaces(path, Path(given), made_here, writes):
                raise ValueError(
                    f"{option} is {path}, which would replace what {name} reads, {given}: give another {option}; "
                    "otherwise the input would be lost."
                )
    if writes is None and path.is_dir():
        raise ValueError(f"{option} is {path}, which is a folder: give the name of a file.")
    if writes is not None and path.exists() and not path.is_dir():
        raise ValueError(f"{option} is {path}, which is a file: give the name of a folder.")
    there = [path] if writes is None else [path / name for name in writes]
    there = [file for file in there if os.path.lexists(file)]
    if there and not overwrite and not made_here(path):
        raise ValueError(
            f"{option}: {there[0]} is there, and this command did not make it from the same inputs: give another "
            f"{option}, or --overwrite to replace it."
        )


def check_different(outputs: Mapping[str, str | Path | None]):
    """Refuses two outputs of one name: the second would replace the first."""
    earlier: dict[str, str] = {}
    for option, path in outputs.items():
        if path is not None and str(path) != STDOUT:
            other = earlier.setdefault(os.path.realpath(path), option)
            if other != option:
                raise ValueError(f"{other} and {option} are both {path}: give each output a name of its own.")


def _replaces(output: Path, given: Path, made_here: Callable[[Path], bool], writes: Iterable[str] | None) -> bool:
    """Whether an output is an input that exists, or what the input consists of, or a folder that holds it."""
    place, source = Path(os.path.realpath(output)), Path(os.path.realpath(given))
    if place == source or (output.exists() and os.path.samefile(output, given)):
        return True
    if writes is not None:
        return place in source.parents
    return output.exists() and source in place.parents and not made_here(output)


def mark_of(command: str, *inputs: object) -> str:
    """Returns the mark that a picture or video carries: the command, and a digest of what it was made from."""
    digest = hashlib.sha256("\0".join(map(str, inputs)).encode(errors="surrogateescape")).hexdigest()[:16]
    return f"avt-distill {command} {digest}"


def has_mark(mark: str) -> Callable[[Path], bool]:
    """Returns what says whether a picture or video carries a mark."""

    def made_here(path: Path) -> bool:
        with open(path, "rb") as file:
            begin = file.read(MARKED)
            file.seek(max(path.stat().st_size - MARKED, 0))
            return mark.encode() in begin + file.read()

    return made_here


def is_json_with(*names: str, **same: object) -> Callable[[Path], bool]:
    """Returns what says whether a file is a JSON object that has these names, and equal values of others."""
    wanted = json.loads(json.dumps(same))

    def made_here(path: Path) -> bool:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if not isinstance(content, dict) or not set(names) <= set(content):
            return False
        return all(content.get(name) == value for name, value in wanted.items())

    return made_here


def holds(name: str) -> Callable[[Path], bool]:
    """Returns what says whether a folder holds a file that only this command writes."""
    return lambda folder: (folder / name).is_file()
