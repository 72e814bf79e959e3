"""Protection against overwriting: never an input, and no files that the command did not create itself.

Every command calls these checks for each output path before it starts its work.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

STDOUT = "-"
MARKED = 1 << 20  # bytes at both ends of a picture or video that are searched for a mark
OVERWRITE = "replace files of that name that this command did not create"

Inputs = Mapping[str, Any]  # by option: a path, a list of paths, or None


def nothing(path: Path) -> bool:
    """Returns `False`: no file counts as created by this command."""
    return False


def check_output(
    option: str,
    path: str | Path | None,
    inputs: Inputs,
    *,
    overwrite: bool = False,
    made_here: Callable[[Path], bool] = nothing,
    writes: Iterable[str] | None = None,
    ending: str | None = None,
):
    """Raises `ValueError` if an output would replace an input, or a file that this command did not create.

    Args:
        option (`str`): Name of the option, for messages.
        path (`str`, `Path` or `None`): File or, with `writes`, folder to write. `None` and `-` are no files.
        inputs (`Mapping`): The command's inputs by option: paths, lists of paths, or `None`. Paths that do not exist,
            such as names of models on the Hub, are ignored.
        overwrite (`bool`, *optional*, defaults to `False`): Whether files that this command did not create may be
            replaced. Inputs never are.
        made_here (`Callable`, *optional*): Returns whether an earlier call of this command created an existing file or
            folder, so that the command can be rerun.
        writes (iterable of `str`, *optional*): Names of the files that the command writes in a folder.
        ending (`str`, *optional*): The only suffix that the file may have, in lower or upper case, such as `.png`.

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
    if ending is not None and path.suffix.lower() != ending:
        raise ValueError(f"{option} is {path}, but what it writes is {ending}: give a name that ends in {ending}.")
    if writes is None and path.is_dir():
        raise ValueError(f"{option} is {path}, which is a folder: give the name of a file.")
    if writes is not None and path.exists() and not path.is_dir():
        raise ValueError(f"{option} is {path}, which is a file: give the name of a folder.")
    there = [path] if writes is None else [path / name for name in writes]
    there = [file for file in there if os.path.lexists(file)]
    if there and not overwrite and not made_here(path):
        raise ValueError(
            f"{option}: {there[0]} exists, and this command did not write it from the same inputs: give another "
            f"{option}, or --overwrite to replace it."
        )


def check_different(outputs: Mapping[str, str | Path | None]):
    """Raises `ValueError` if two outputs have the same path, since the second would replace the first."""
    earlier: dict[str, str] = {}
    for option, path in outputs.items():
        if path is not None and str(path) != STDOUT:
            other = earlier.setdefault(os.path.realpath(path), option)
            if other != option:
                raise ValueError(f"{other} and {option} are both {path}: give each output a name of its own.")


def _replaces(output: Path, given: Path, made_here: Callable[[Path], bool], writes: Iterable[str] | None) -> bool:
    """Returns whether an output is an existing input, a part of it, or a folder that contains it."""
    place, source = Path(os.path.realpath(output)), Path(os.path.realpath(given))
    if place == source or (output.exists() and os.path.samefile(output, given)):
        return True
    if writes is not None:
        return place in source.parents
    return output.exists() and source in place.parents and not made_here(output)


def mark_of(command: str, *inputs: object) -> str:
    """Returns the mark for a picture or video: the command, and a digest of its inputs."""
    digest = hashlib.sha256("\0".join(map(str, inputs)).encode(errors="surrogateescape")).hexdigest()[:16]
    return f"avt-distill {command} {digest}"


def has_mark(mark: str) -> Callable[[Path], bool]:
    """Returns a function that checks whether a picture or video contains a mark."""

    def made_here(path: Path) -> bool:
        with open(path, "rb") as file:
            begin = file.read(MARKED)
            file.seek(max(path.stat().st_size - MARKED, 0))
            return mark.encode() in begin + file.read()

    return made_here


def is_json_with(*names: str, **same: object) -> Callable[[Path], bool]:
    """Returns a function that checks whether a file is a JSON object with these keys, and equal values of others."""
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
    """Returns a function that checks whether a folder contains a file that only this command writes."""
    return lambda folder: (folder / name).is_file()
