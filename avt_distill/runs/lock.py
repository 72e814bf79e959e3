"""Locks that let only one command at a time write to a folder or file; the processes of one run share a lock."""

import errno
import json
import logging
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from .errors import naming_place

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)

LOCK = "_avt_distill.lock"  # in a folder; `Trainer` pushes no file that begins with an underscore
PARTIAL, UNFINISHED = ".partial", ".unfinished_"  # suffix of unfinished files, and prefix of unfinished folders
OF_SAFETENSORS = re.compile(r"\.tmp[A-Za-z0-9]{6}")  # what `save_file` writes to
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of some network file systems
_held: dict[Path, int] = {}  # this process's locks: the descriptor of each file


class InUseError(ValueError):
    """Raised if another command is writing to the same folder or file."""


@contextmanager
def locked(place: str | Path, *, is_file: bool = False) -> Iterator[None]:
    """Prevents other commands from writing to a folder or file while the block runs.

    Errors of writing that do not name a file, such as those of a full disk, are raised with the folder or file.

    The kernel releases the lock when the process ends in any way, so the lock file of a killed process has no effect.
    Processes of one `accelerate launch` share the lock. Locks are reentrant within a process. Windows has no such
    locks: a warning is logged, and unfinished files of killed processes are kept.

    Args:
        place (`str` or `Path`): The folder, which is created, and removed if it is still empty at the end; or the file.
        is_file (`bool`, *optional*, defaults to `False`): Lock the file of this name alone.

    Raises:
        InUseError: If another command holds the lock. The message names it.
    """
    place = Path(place).resolve()
    folder = place.parent if is_file else place
    path = folder / (f"_{place.name}.lock" if is_file else LOCK)
    if path in _held:
        yield
        return
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _take(path, place)
        try:
            yield
        except Exception as error:
            if (named := naming_place(error, place)) is error:
                raise
            raise named from error
        finally:
            _release(path)
    finally:
        for parent in created:
            with suppress(OSError):  # not empty
                parent.rmdir()


@contextmanager
def unchanged(folder: str | Path) -> Iterator[None]:
    """Prevents commands from writing to a folder that is being read, such as for an upload, while the block runs.

    Locks of parent folders count, since their commands may write to this one, too. In a read-only folder no lock can be
    acquired, so only existing locks are checked. With several processes, only the reading one acquires the lock.

    Args:
        folder (`str` or `Path`): The folder.

    Raises:
        InUseError: If another command writes to the folder. The message names it.
    """
    folder = Path(folder).resolve()
    for place in (folder, *folder.parents):
        if place / LOCK not in _held and (holder := _holder_of(place / LOCK)) is not None:
            raise _in_use(place, holder)
    path = folder / LOCK
    if path in _held or fcntl is None or not folder.is_dir():
        yield
        return
    try:
        _lock(path, folder, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    try:
        yield
    finally:
        if path in _held:
            _release(path)


def can_lock() -> bool:
    """Returns whether this system has locks that end with their process, as all but Windows do."""
    return fcntl is not None


def _take(path: Path, place: Path):
    """Acquires a lock for this process; with several processes first for the main one, then for all."""
    if not can_lock():
        _warn_of_no_locks(place)
        return
    assert fcntl is not None
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        _lock(path, place, fcntl.LOCK_EX)
        remove_unfinished(place)
        return
    from accelerate import PartialState

    state = PartialState()
    with state.main_process_first():
        if state.is_main_process:
            _lock(path, place, fcntl.LOCK_EX)
            remove_unfinished(place)
        if state.num_processes > 1:
            _lock(path, place, fcntl.LOCK_SH)
    state.wait_for_everyone()  # no process may exit before all hold the lock


@cache  # warns only once per place
def _warn_of_no_locks(place: Path):
    logger.warning(
        "This system has no file locks to detect other commands: do not start a second command in %s.", place
    )


def _lock(path: Path, place: Path, kind: int):
    """Locks a file, which is created, and records who did; a lock that is held becomes one of the other kind."""
    assert fcntl is not None
    while True:
        descriptor = _held.get(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666) if descriptor is None else descriptor
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(descriptor)
            _held.pop(path, None)
            os.close(descriptor)
            raise _in_use(place, holder) from error
        except OSError as error:
            if error.errno not in NO_LOCKS_HERE:
                os.close(descriptor)
                raise
            logger.warning("%s is on a file system without locks: do not start a second command there.", place)
        _held[path] = descriptor
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                break
        os.close(_held.pop(path))  # removed by its holder between opening and locking
    if kind == fcntl.LOCK_EX:
        with suppress(OSError):  # the holder's record is only for other commands' messages
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_this_process()).encode(), 0)


def _in_use(place: Path, holder: str) -> InUseError:
    return InUseError(
        f"{place} is in use by {holder}: wait until it ends, or give another name, otherwise both would write the same "
        "files."
    )


def lock_descriptor(descriptor: int) -> bool:
    """Locks an open file until it is closed; returns whether no other process holds it, as far as that is known."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS_HERE:
            raise
    return True


def _release(path: Path):
    """Unlocks a file, and removes it unless another process of the run holds the lock, too."""
    if not can_lock():
        return
    assert fcntl is not None
    descriptor = _held.pop(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _this_process() -> dict:
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"command": " ".join(sys.argv[1:2]), "pid": os.getpid(), "host": socket.gethostname(), "since": began}


def _holder(descriptor: int) -> str:
    """Returns who holds a lock, as a part of a sentence."""
    try:
        found = json.loads(os.pread(descriptor, 10_000, 0))
        return "process {pid} on {host} ({command}, since {since})".format(**found)
    except (ValueError, KeyError, TypeError):
        return "another process"


def _close_in_child():
    """Closes inherited locks in a forked process: a worker that outlives its parent must not keep them."""
    for descriptor in _held.values():
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


def remove_unfinished(place: str | Path):
    """Removes unfinished files of killed processes in a folder or next to a file; files being written are kept."""
    place = Path(place)
    if not place.is_dir():
        _remove_partial(place.with_name(f".{place.name}{PARTIAL}"))
        return
    for folder, subfolders, files in os.walk(place):
        if LOCK in files and Path(folder) != place and _holder_of(Path(folder) / LOCK) is not None:
            subfolders.clear()  # another command writes there
            continue
        for name in [name for name in subfolders if name.startswith(UNFINISHED)]:
            shutil.rmtree(Path(folder) / name, ignore_errors=True)
            subfolders.remove(name)
        for name in files:
            if (name.startswith(".") and name.endswith(PARTIAL)) or OF_SAFETENSORS.fullmatch(name):
                _remove_partial(Path(folder) / name)


def _holder_of(lock: Path) -> str | None:
    """Returns who holds a lock, as a part of a sentence, or `None`; a lock file may be another user's."""
    with suppress(OSError):
        descriptor = os.open(lock, os.O_RDONLY)
        try:
            return None if lock_descriptor(descriptor) else _holder(descriptor)
        finally:
            os.close(descriptor)
    return None


def _remove_partial(partial: Path):
    with suppress(OSError):
        descriptor = os.open(partial, os.O_RDWR)
        try:
            if lock_descriptor(descriptor):
                partial.unlink()
        finally:
            os.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
