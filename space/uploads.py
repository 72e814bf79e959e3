"""Limits of visitors' uploads, and their deletion."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST_MB = 100
LONGEST_S = 600.0
DELETED_AFTER_S = 1800  # if a visitor neither replaces the video nor closes the page
CHECKED_EVERY_S = 15


def check_length(duration_s: float, shortest_s: float):
    """Raises `ValueError` if a video is too short for a single moment, or so long that others would have to wait."""
    if duration_s < shortest_s:
        raise ValueError(f"The video lasts {duration_s:g} s: upload one of {shortest_s:g} s at least.")
    if duration_s > LONGEST_S:
        raise ValueError(
            f"The video lasts {duration_s:.0f} s: upload one of {LONGEST_S:g} s at most, such as a part of this one."
        )


class Uploads:
    """The uploaded files of all visitors, one per visitor.

    Gradio stores an upload under a hash of its content, so visitors who upload the same video share one file, which is
    deleted with its last holder.

    Args:
        folder (`str` or `Path`): Folder used exclusively for gradio's uploads, in which old files are deleted.
    """

    def __init__(self, folder: str | Path):
        self._folder = folder
        self._held: dict[str, str] = {}  # a visitor's session to a path
        self._lock = threading.Lock()  # gradio calls from many threads

    def hold(self, visitor: str, path: str | None):
        """Sets a visitor's upload, or removes it for `None`, and deletes the earlier file."""
        with self._lock:
            earlier = self._held.pop(visitor, None)
            if path is not None:
                self._held[visitor] = path
            self._delete_unless_held(earlier)

    def refuse(self, visitor: str, path: str):
        """Deletes an unusable upload, but not a newer upload by the visitor."""
        with self._lock:
            if self._held.get(visitor) == path:
                del self._held[visitor]
            self._delete_unless_held(path)

    def _delete_unless_held(self, path: str | None):
        if path is not None and path not in self._held.values():
            Path(path).unlink(missing_ok=True)  # an old one may have been deleted already

    def delete_old(self, older_than_s: float):
        """Deletes files and empty folders that were last modified longer ago, including leftovers of interrupted
        uploads."""
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
    """Deletes old uploads and idle camera streams periodically. Never returns, so run it in a separate thread.

    Args:
        uploads (`Uploads`): All visitors' uploads.
        streams (`LiveStreams`): All visitors' streams.
    """
    while True:
        time.sleep(CHECKED_EVERY_S)
        uploads.delete_old(DELETED_AFTER_S)
        streams.forget_idle()
