"""The folder of a run: atomic writing of files, and settings that ensure that only the same run resumes."""

import errno
import io
import json
import logging
import os
import stat
import tempfile
import textwrap
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .lock import LOCK, PARTIAL, UNFINISHED, can_lock, lock_descriptor, locked

logger = logging.getLogger(__name__)

SETTINGS = "settings.json"  # written when training starts
ARGUMENTS = "arguments.yaml"  # the options of a run, for commands that continue from it
LONGEST_LIST = 12  # most names in an error message
TO_FLUSH = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # Windows can flush only files opened for writing
RESTORE = "restore it, or delete it and rerun the command that writes it."
ANOTHER_RUN = (
    "{place} holds {what} with {name} {found!r}, not {wanted!r} (all that differ: {different}): give another "
    "output_dir, or delete that one."
)
NOT_RECORDED = (
    "{place} was written by a version that did not record {names}: whether they have changed since cannot be checked, "
    "so give another output_dir, or delete that one."
)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder to write to, and renames it to `path` if the block succeeds.

    All files that are read again are written this way: an interrupted process leaves the old file, or none. Leftovers
    of a killed process are overwritten by the next one.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # renaming onto a device would replace it
        raise ValueError(f"{path} is a folder, a device or a pipe: give the name of a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"There is no folder '{path.parent}'", str(path))
    # Not by `tempfile`, whose files only their owner may read.
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        with _kept_from_others(partial) as is_free:
            if not is_free:  # several processes may write the same file at once
                partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
            try:
                yield partial
                move_whole(partial, path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        # A full disk names no file, and the name of the unfinished one says nothing to a user.
        is_own = error.filename is None or PARTIAL in str(error.filename)
        if error.errno is None or not is_own:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _kept_from_others(partial: Path) -> Iterator[bool]:
    """Locks an unfinished file while the block runs; yields whether that worked."""
    if not can_lock():  # Windows, which cannot rename an open file
        yield False
        return
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # of another user
        yield False
        return
    try:
        yield lock_descriptor(descriptor)
    finally:
        os.close(descriptor)


def move_whole(partial: str | Path, path: str | Path):
    """Flushes a finished file to disk and renames it, so that a power cut leaves either the new or the old file."""
    descriptor = os.open(partial, TO_FLUSH)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(partial, path)
    with suppress(OSError):  # not all systems can open and flush folders
        folder = os.open(Path(path).parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def whole_files(folder: str | Path, last: str | None = None, replaces: Iterable[str] = ()) -> Iterator[Path]:
    """Yields an empty folder to write to, and moves its files to `folder` if the block succeeds.

    Args:
        folder (`str` or `Path`): Where the files are to be.
        last (`str`, *optional*): The file that is moved last, whose existence marks a complete result.
        replaces (iterable of `str`, *optional*): Names of files of an earlier result in `folder`, which are removed if
            the block does not write them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED, ignore_cleanup_errors=True) as unfinished:
        yield Path(unfinished)
        for name in replaces:
            if not (Path(unfinished) / name).exists():
                (folder / name).unlink(missing_ok=True)
        share_weights(unfinished)
        for path in sorted(Path(unfinished).iterdir(), key=lambda path: (path.name == last, path.name)):
            move_whole(path, folder / path.name)


def share_weights(folder: str | Path):
    """Gives weights in a folder the permissions of other new files: safetensors lets only their owner read them."""
    files = list(Path(folder).glob("*.safetensors"))
    if not files:
        return
    # The umask can be read only by changing it, which would affect the files of other threads.
    plain = files[0].with_name(f".{files[0].name}.{uuid.uuid4().hex}{PARTIAL}")
    plain.touch()
    try:
        permissions = stat.S_IMODE(plain.stat().st_mode)
    finally:
        plain.unlink()
    for file in files:
        file.chmod(permissions)


def write_text(path: str | Path, text: str):
    """Writes UTF-8 text atomically, with the same bytes on every system."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, content: Any):
    """Writes JSON atomically."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def growing_json(path: str | Path, content: dict, name: str) -> Iterator[Callable[[Any], None]]:
    """Yields a function that appends to the list `name` of a JSON object, which otherwise holds `content`.

    The file is valid JSON after each call, however the process ends. Only one process may write it at a time.
    """
    empty = json.dumps({**content, name: []}, indent=1, ensure_ascii=False)
    end = "]\n}\n"
    with locked(path, is_file=True):
        write_text(path, f"{empty}\n")
        with open(path, "r+b", buffering=0) as file:
            at = len(empty.removesuffix("]\n}").encode())
            separator = "\n"

            def append(item: Any):
                nonlocal at, separator
                text = separator + textwrap.indent(json.dumps(item, indent=1, ensure_ascii=False), "  ")
                _overwrite(file, at, f"{text}\n {end}".encode(), end.encode())
                at, separator = at + len(text.encode()), ",\n"

            yield append


def _overwrite(file: io.FileIO, at: int, content: bytes, before: bytes):
    """Writes at a position in one system call, so that it cannot be interrupted halfway; undoes a partial write."""
    try:
        file.seek(at)
        if file.write(content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
    except OSError:
        file.seek(at)
        file.write(before)
        file.truncate()
        raise


def read_json(path: str | Path, **kwargs: Any) -> Any:
    """Returns the content of a JSON file; `kwargs` are those of `json.loads`.

    Raises:
        ValueError: If the file is not JSON. The message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), **kwargs)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}): {RESTORE}") from error


def read_record(path: str | Path, *names: str, **kwargs: Any) -> dict:
    """Reads the record of a command, a JSON object.

    Args:
        path (`str` or `Path`): The file.
        names (`str`): Required keys.
        kwargs: Passed to `json.loads`.

    Raises:
        ValueError: If the file is not JSON, is not an object or lacks a key. The message names it.
    """
    content = read_json(path, **kwargs)
    if not isinstance(content, dict) or (absent := [name for name in names if name not in content]):
        lacking = f"lacks {absent}" if isinstance(content, dict) else f"holds a {type(content).__name__}"
        raise ValueError(f"{path} {lacking} and is not a record: {RESTORE}")
    return content


def is_record(path: str | Path, *names: str) -> bool:
    """Returns whether a complete record exists; logs a warning if an incomplete one does."""
    try:
        read_record(path, *names)
    except FileNotFoundError:
        return False
    except ValueError as error:
        logger.warning("%s It is written again.", error)
        return False
    return True


def keep_settings(
    path: str | Path, settings: dict, *, should_save: bool = True, refusal: str = ANOTHER_RUN, **names: str
):
    """Writes the settings of a new run, or checks that they equal those of the run that wrote the file.

    A run that failed before it kept anything does not claim the folder: its settings are replaced.

    Args:
        path (`str` or `Path`): JSON file.
        settings (`dict`): JSON-serializable settings that determine the run's results.
        should_save (`bool`, *optional*, defaults to `True`): Whether this process writes the file.
        refusal, names (*optional*): See `refuse_other_settings`; `{place}` is the file's folder. The default refusal
            has the field `{what}`, the content of the folder, such as "a teacher".

    Raises:
        ValueError: If settings differ.
    """
    path, settings = Path(path), json.loads(json.dumps(settings))
    if path.exists() and _holds_work(path.parent, path.name):
        refuse_other_settings(read_record(path), settings, refusal=refusal, place=path.parent, **names)
    elif should_save:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)


def _holds_work(folder: Path, settings: str) -> bool:
    """Whether a folder holds any file besides the records that a run writes before it computes anything."""
    records = {settings, SETTINGS, ARGUMENTS, LOCK}
    files = (file for _, _, names in os.walk(folder) for file in names)
    return any(file not in records and not file.endswith(PARTIAL) for file in files)


def refuse_other_settings(found: dict, settings: dict, *, refusal: str, **names):
    """Raises a `ValueError` unless all settings are equal.

    Args:
        found (`dict`): The settings of the run that began.
        settings (`dict`): The settings of this run. Other settings are not compared.
        refusal (`str`): The message, with the fields `{name}` of the first that differs, `{found}`, `{wanted}`,
            `{different}`, the names of all that differ, and those of `names`. Of mappings the keys that differ are
            named, as in `training_rows.start_s`.
    """
    if not_recorded := [name for name in settings if name not in found and settings[name] not in (None, {})]:
        different = [name for name in settings if name in found and found[name] != settings[name]]
        if not different and "place" in names:
            raise ValueError(NOT_RECORDED.format(place=names["place"], names=", ".join(not_recorded)))
    if different := _differences(found, settings):
        name, (value, wanted) = next(iter(different.items()))
        values = {"name": name, "found": value, "wanted": wanted, "different": _first_of(list(different))}
        raise ValueError(refusal.format(**values, **names))


def _differences(found: Mapping, wanted: Mapping, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Returns what was found and what is wanted of each setting that differs, by its name."""
    different = {}
    for name in wanted if not prefix else dict.fromkeys([*wanted, *found]):
        value, other = found.get(name), wanted.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            different |= _differences(value, other, f"{prefix}{name}.")
        elif value != other:
            different[f"{prefix}{name}"] = (value, other)
    return different


def _first_of(names: list[str]) -> list[str]:
    """Returns names as a message lists them: of many, the first and how many there are."""
    return names if len(names) <= LONGEST_LIST else [*names[:LONGEST_LIST], f"and {len(names) - LONGEST_LIST} more"]


def check_processes(num_processes: int, option: str = "--use_cpu"):
    """Raises `ValueError` for processes that do not communicate, each of which would do all the work and write the
    result.

    Without an accelerator, processes started by `torchrun` and `accelerate launch` do not form a group unless an option
    makes them use the CPU.

    Args:
        num_processes (`int`): The processes that work together as Accelerate counts them, such as
            `TrainingArguments.world_size`.
        option (`str`, *optional*, defaults to `"--use_cpu"`): The command's option for using the CPU.

    Raises:
        ValueError: If more processes were launched.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != num_processes:
        raise ValueError(
            f"{launched} processes were launched, but each runs alone: without an accelerator give {option}."
        )
