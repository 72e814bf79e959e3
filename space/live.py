"""Streams of visitors' cameras, one per visitor, which keep only features in memory and no picture files."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST_VISITORS = 4  # at a time; others wait
LONGEST_S = 600.0  # computing time, after which the next visitor is served
NEW_VIDEO_AFTER_S = 10.0  # without a frame: the camera was stopped
FORGOTTEN_AFTER_S = 45.0  # with `uploads.CHECKED_EVERY_S`, streams are deleted within a minute


@dataclass
class Watched:
    """A visitor's stream, with the times of its beginning and last frame, in seconds on this machine's clock."""

    stream: Any
    began_s: float
    last_s: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class LiveStreams:
    """The streams of all visitors' cameras.

    Args:
        begin (`Callable`): Returns a new stream: `push(frame, time_s)` returns an answer, or `None`.
        clock (`Callable`, *optional*): Returns seconds.
    """

    def __init__(self, begin: Callable[[], Any], clock: Callable[[], float] = time.monotonic):
        self._begin, self._clock = begin, clock
        self._watched: dict[str, Watched] = {}  # by a visitor's session
        self._lock = threading.Lock()  # gradio calls from many threads

    def push(self, visitor: str, frame: np.ndarray) -> tuple[float, list[dict] | None]:
        """Pushes a frame into the visitor's stream: `(H, W, 3)`, uint8.

        Returns:
            Its time in seconds since the camera's first frame, and the stream's answer, or `None` if none was due.
        """
        now_s = self._clock()
        with self._lock:
            watched = self._watched.get(visitor)
            if watched is None or now_s - watched.last_s > NEW_VIDEO_AFTER_S:
                watched = self._watched[visitor] = Watched(self._begin(), now_s, now_s)
            watched.last_s = now_s
        with watched.lock:  # frames of a stream must be pushed one after another
            return now_s - watched.began_s, watched.stream.push(frame, now_s - watched.began_s)

    def close(self, visitor: str):
        """Deletes the visitor's stream and its state."""
        with self._lock:
            self._watched.pop(visitor, None)

    def forget_idle(self):
        """Deletes streams whose cameras have sent nothing for `FORGOTTEN_AFTER_S`."""
        with self._lock:
            oldest_s = self._clock() - FORGOTTEN_AFTER_S
            self._watched = {visitor: each for visitor, each in self._watched.items() if each.last_s >= oldest_s}

    def __len__(self) -> int:
        return len(self._watched)


def sent_every_s(frame_rate: float) -> float:
    """Returns the interval in seconds at which a browser should send frames: half of the model's frame interval."""
    return min(0.5, 0.5 / frame_rate)


def rgb(picture: np.ndarray) -> np.ndarray:
    """Returns a picture `(H, W)`, or `(H, W, C)` with or without transparency, as a frame `(H, W, 3)`."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return np.ascontiguousarray(picture[..., :3])
