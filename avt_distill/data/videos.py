"""Finding video files."""

import os
from collections.abc import Sequence
from pathlib import Path

from modeling_avt.video_io_avt import PictureFolder, numbered_pictures

from ..runs.names import file_name
from ..runs.texts import read_user_text

# fmt: off
VIDEO_SUFFIXES = {
    ".3g2", ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
}
# fmt: on


def find_videos(sources: Sequence[str | Path], *, pictures: bool = False) -> dict[str, Path]:
    """Returns video files by video id (the file name without its suffix), in order of the ids.

    Args:
        sources (`Sequence[str | Path]`): Video files, folders (searched recursively), and `.txt` files with one path
            per line, relative to the `.txt` file.
        pictures (`bool`, *optional*, defaults to `False`): Whether to treat folders of numbered pictures as videos with
            the folder's name.

    Raises:
        ValueError: If a file does not exist, two files have one name, or there is no video at all.
    """
    videos = {}
    for path in [path for source in sources for path in _expand(Path(source), pictures)]:
        if not path.is_file() and not (pictures and path.is_dir()):
            raise ValueError(f"The video {path} does not exist: correct the path.")
        # The paths "." and ".." do not hold the names of their folders.
        name = os.path.basename(os.path.abspath(path)) if path.is_dir() else path.stem
        earlier = videos.setdefault(file_name(name), path)
        if earlier.resolve() != path.resolve():
            raise ValueError(f"{earlier} and {path} have the same video id: rename one.")
    if not videos:
        raise ValueError(
            f"There is no video in {', '.join(map(str, sources))}: supported suffixes are {sorted(VIDEO_SUFFIXES)}. "
            "Folders of numbered pictures are videos if their rate is given: video_fps, or --picture_fps."
        )
    return dict(sorted(videos.items()))


def videos_with_rate(sources: Sequence[str | Path], picture_fps: float | None) -> dict[str, str]:
    """Returns the videos of `find_videos` in the form that `read_frames` accepts, with the rate of folders of pictures.

    Args:
        sources (`Sequence[str | Path]`): See `find_videos`.
        picture_fps (`float`, *optional*): Pictures per second. Without it, folders of pictures are ignored.
    """
    found = find_videos(sources, pictures=picture_fps is not None)
    return {
        video_id: str(path) if picture_fps is None or path.is_file() else str(PictureFolder(str(path), picture_fps))
        for video_id, path in found.items()
    }


def _expand(source: Path, pictures: bool) -> list[Path]:
    if source.is_dir():
        inside = sorted(source.rglob("*"))
        folders = [path for path in (source, *inside) if pictures and path.is_dir() and numbered_pictures(path)]
        return [*folders, *(path for path in inside if _is_video(path))]
    if source.suffix == ".txt" and source.is_file():
        return [source.parent / line.strip() for line in read_user_text(source).splitlines() if line.strip()]
    return [source]


def _is_video(path: Path) -> bool:
    # On foreign file systems, macOS stores a file's attributes in a second file "._<name>".
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("._")
