"""Refuses file operations that fail only on Windows; for use in a separate process, since audit hooks stay."""

import errno
import fcntl
import multiprocessing
import os
import re
import shutil
import sys
from pathlib import Path

INVALID = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')  # in file names
FOLDERS = {"os.rename": (2, 3), "os.remove": (1,), "os.rmdir": (1,), "os.mkdir": (2,)}  # descriptors in audit events


def refuse_as_windows(folder: str | Path):
    """Makes file operations below a folder fail in this process if they would fail on Windows.

    These are: renaming, replacing and removing a file that this process has open or mapped; opening a folder; names
    with characters such as a colon; and flushing a file that is open only for reading. There are no forks and no
    `fcntl`, and `multiprocessing` starts new processes.
    """
    from avt_distill.runs import folder as run_folder
    from avt_distill.runs import lock

    lock.fcntl, run_folder.TO_FLUSH = None, os.O_RDWR
    multiprocessing.set_start_method("spawn", force=True)
    shutil._use_fd_functions = False  # on Windows, trees are removed by path
    fsync = os.fsync

    def fsync_what_is_written(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Windows flushes no file that is open for reading alone")
        fsync(descriptor)

    os.fsync = fsync_what_is_written
    sys.addaudithook(_Hook(Path(folder).resolve()))


class _Hook:
    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __call__(self, event: str, arguments: tuple):
        if event == "os.fork":
            raise OSError(errno.ENOSYS, "Windows has no fork")
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = self._below(arguments[0])
            if path and arguments[1] is None and os.path.isdir(path):
                raise PermissionError(errno.EACCES, "Windows opens no folder", path)
            self._check_name(path)
        elif event in FOLDERS:
            paths = [self._below(*given) for given in zip(arguments, self._folders(event, arguments), strict=False)]
            for path in paths:
                self._check_name(path)
            if event != "os.mkdir":
                self._check_closed([path for path in paths if path])

    def _folders(self, event: str, arguments: tuple) -> list:
        return [arguments[position] for position in FOLDERS[event]]

    def _below(self, path, folder: int = -1) -> str | None:
        path = os.fsdecode(path)
        if folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        path = os.path.abspath(path)
        return path if path.startswith(self.folder + "/") else None

    def _check_name(self, path: str | None):
        if path is not None and INVALID.search(os.path.basename(path)):
            raise OSError(errno.EINVAL, "Windows allows no such name", path)

    def _check_closed(self, paths: list[str]):
        in_use = _in_use()
        for path in paths:
            if found := [other for other in in_use if other == path or other.startswith(path + "/")]:
                raise PermissionError(errno.EACCES, f"Windows: {found} is open or mapped in this process", path)


def _in_use() -> set[str]:
    """Returns the files that this process has open or mapped."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:  # the descriptor of the listing itself
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        found |= {line.split(maxsplit=5)[5].strip() for line in lines if line.count("/")}
    return found
