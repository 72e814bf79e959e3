"""Folders of pictures as videos: one picture per frame, in the order of the numbers in their names, at a given rate.

`frame_0000000001.jpg, frame_0000000002.jpg, ...` is how RULSTM and many benchmarks publish frames. Picture `i`,
counting from 0, is shown from `i / frames_per_second` on.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .rules_avt import Number
from .temporal_avt import TIME_SLACK_S
from .video_source_avt import VideoDecodeError, import_av, naming_errors

CODECS = {".jpg": "mjpeg", ".jpeg": "mjpeg", ".png": "png", ".bmp": "bmp", ".webp": "webp"}
RATE = "?frames_per_second="  # separates folder and rate when a video is stored as text, as in rows
_NUMBERED = re.compile(r"(.*?)(\d+)(\.\w+)", re.DOTALL)


@dataclass(frozen=True)
class PictureFolder:
    """A folder of pictures and their rate, both of which `str()` encodes.

    Args:
        path (`str`): The folder.
        frames_per_second (`float`): Pictures per second, above 0.
    """

    path: str
    frames_per_second: float

    def __post_init__(self):
        try:
            rate = Number(above=0)("frames_per_second", self.frames_per_second)
        except ValueError as error:
            raise VideoDecodeError(self.path, str(error)) from error
        object.__setattr__(self, "frames_per_second", rate)  # plain Python: `str()` of NumPy's numbers names their type

    def __str__(self) -> str:
        return f"{self.path}{RATE}{self.frames_per_second!r}"

    @property
    def name(self) -> str:
        """The folder's path, for messages."""
        return self.path

    def files(self) -> list[str]:
        """Returns the pictures in the order of their numbers.

        Raises:
            VideoDecodeError: If there are no pictures, pictures of several names or kinds, or gaps in the numbers.
        """
        found = numbered_pictures(self.path)
        kinds = sorted({(prefix, suffix) for _, prefix, suffix, _ in found})
        if len(kinds) != 1:
            several = ", ".join(f"{prefix}<number>{suffix}" for prefix, suffix in kinds) or "none"
            raise VideoDecodeError(self.path, f"its pictures must have one name and a number each; found: {several}.")
        numbers = [number for number, *_ in found]
        for earlier, later in pairwise(numbers):
            if later != earlier + 1:
                raise VideoDecodeError(
                    self.path,
                    f"picture {later} follows {earlier}, and all later ones would be shifted: add the missing "
                    "pictures.",
                )
        return [os.path.join(self.path, name) for *_, name in found]

    @property
    def duration_s(self) -> float:
        return len(self.files()) / self.frames_per_second

    def frames_at(self, times_s: Sequence[float]) -> list:
        """Returns the picture shown at each time in seconds, decoded (`av.VideoFrame`). The end shows the last picture.

        Raises:
            VideoDecodeError: If a time is after the end, or a picture cannot be decoded.
        """
        files = self.files()
        frames = {}
        for time_s in times_s:
            index = math.floor((time_s + TIME_SLACK_S) * self.frames_per_second)
            end_s = len(files) / self.frames_per_second
            if time_s > end_s + TIME_SLACK_S:
                raise VideoDecodeError(self.path, f"it ends at {end_s:.3f} s.", time_s)
            frames[time_s] = files[min(max(index, 0), len(files) - 1)]
        decoded = {file: decode_picture(file) for file in set(frames.values())}
        return [decoded[frames[time_s]] for time_s in times_s]


def picture_folder(video) -> PictureFolder | None:
    """Returns the folder of pictures that a video is, or `None` for other videos.

    Raises:
        VideoDecodeError: If a folder of pictures has no rate.
    """
    if isinstance(video, PictureFolder) or not isinstance(video, (str, os.PathLike)):
        return video if isinstance(video, PictureFolder) else None
    path, mark, rate = os.fspath(video).partition(RATE)
    if not os.path.isdir(path) or not (mark or numbered_pictures(path)):
        return None
    if not mark:
        raise VideoDecodeError(
            path,
            "it is a folder of pictures, which have no frame rate: give frames_per_second, or a data set's video_fps.",
        )
    try:
        return PictureFolder(path, float(rate))
    except ValueError:
        raise VideoDecodeError(path, f"'{rate}' is not a number of pictures per second: give one above 0.") from None


def numbered_pictures(folder: str | os.PathLike) -> list[tuple[int, str, str, str]]:
    """Returns number, beginning, suffix and name of each numbered picture in a folder, in the order of the numbers."""
    matches = [(match, name) for name in os.listdir(folder) if (match := _NUMBERED.fullmatch(name))]
    pictures = [(int(match[2]), match[1], match[3].lower(), name) for match, name in matches]
    return sorted(picture for picture in pictures if picture[2] in CODECS and not picture[3].startswith("."))


def decode_picture(path: str):
    """Returns a picture, `av.VideoFrame`; raises `VideoDecodeError` if it cannot be decoded."""
    av = import_av()
    with naming_errors(path, "it is not a picture that can be decoded"), open(path, "rb") as file:
        codec: Any = av.CodecContext.create(CODECS[os.path.splitext(path)[1].lower()], "r")
        frames = [*codec.decode(av.Packet(file.read())), *codec.decode(None)]
    if not frames:
        raise VideoDecodeError(path, "it is not a picture that can be decoded.")
    return frames[0]
