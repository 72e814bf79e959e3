"""What visitors upload: how much is accepted, and when it is deleted."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST_MB = 100
LONGEST_S = 600.0
DELETED_AFTER_S = 1800  # where a visitor neither replaces a video nor closes the page
CHECKED_EVERY_S = 15


def check_length(duration_s: float, shortest_s: float):
    """Raises `ValueError` for a video too short to show a moment of, or so long that it would keep others waiting."""
    if duration_s < shortest_s:
        raise ValueError(f"The video lasts {duration_s:g} s: upload one of {shortest_s:g} s at least.")
    if duration_s > LONGEST_S:
        raise ValueError(
            f"The video lasts {duration_s:.0f} s: upload one of {LONGEST_S:g} s at most, such as a part of this one."
        )


class Uploads:
    """The uploaded files of all visitors, one a visitor.

    Gradio stores an upload under a hash of its content, so visitors who upload the same video share one file: it is
    deleted with the last visitor who holds it.

    Args:
        folder (`str` or `Path`): Where gradio stores uploads, and nothing else is: what is old in it is deleted.
    """

    def __init__(self, folder: str | Path):
        self._folder = folder
        self._held: dict[str, str] = {}  # a visitor's session to a path
        self._lock = threading.Lock()  # gradio calls from many threads

    def hold(self, visitor: str, path: str | None):
        """Replaces a visitor's upload, or with `None` takes it away, and deletes the earlier one."""
        with self._lock:
            earlier = self._held.pop(visitor, None)
            if path is not None:
                self._held[visitor] = path
            self._delete_unless_held(earlier)

    def refuse(self, visitor: str, path: str):
        """Deletes an upload that cannot be used; one with which the visitor has replaced it meanwhile is kept."""
        with self._lock:
            if self._held.get(visitor) == path:
                del self._held[visitor]
            self._delete_unless_held(path)

    def _delete_unless_held(self, path: str | None):
        if path is not None and path not in self._held.values():
            Path(path).unlink(missing_ok=True)  # an old one may have been deleted already

    def delete_old(self, older_than_s: float):
        """Deletes files and empty folders that were last written longer ago, also what interrupted uploads left."""
        for folder, _, names in os.walk(self._folder, topdown=False):
            for name in names:
                self._delete_if_old(os.path.join(folder, name), os.unlink, older_than_s)
            if folder != str(self._folder):
                self._delete_if_old(folder, os.rmdir, older_than_s)
        with self._lock:
            self._held = {visitor: path for visitor, path in self._held.items() if os.path.exists(path)}

    @staticmethod
    def _delete_if_old(path: str, delete: Callable[[str], None], older_than_s: float):
        with contextlib.suppress(OSError):  # deleted meanwhile, or a folder that is not empty
            if time.time() - os.lstat(path).st_ctime > older_than_s:
                delete(path)


def keep_deleting(uploads: Uploads, streams: Any):
    """Deletes old uploads, and streams of cameras that were stopped. Never returns: for a thread of its own.

    Args:
        uploads (`Uploads`): All visitors' uploads.
        streams (`LiveStreams`): All visitors' streams.
    """
    while True:
        time.sleep(CHECKED_EVERY_S)
        uploads.delete_old(DELETED_AFTER_S)
        streams.forget_idle()
