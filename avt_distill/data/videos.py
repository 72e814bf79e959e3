"""Finding video files."""

from collections.abc import Sequence
from pathlib import Path

from ..runs.names import file_name

# fmt: off
VIDEO_SUFFIXES = {
    ".3g2", ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
}
# fmt: on


def find_videos(sources: Sequence[str | Path]) -> dict[str, Path]:
    """Returns video files by video id, the file's name without its suffix, in order of the ids.

    Args:
        sources (`Sequence[str | Path]`): Video files, folders (searched with their subfolders), and `.txt` files that
            name one video a line, relative to themselves.

    Raises:
        ValueError: for a file that does not exist, for two of one name, and where there is no video at all.
    """
    videos = {}
    for path in [path for source in sources for path in _expand(Path(source))]:
        if not path.is_file():
            raise ValueError(f"The video {path} does not exist: correct the path.")
        earlier = videos.setdefault(file_name(path.stem), path)
        if earlier.resolve() != path.resolve():
            raise ValueError(f"{earlier} and {path} have one name, and would be one video: rename one.")
    if not videos:
        raise ValueError(f"There is no video in {', '.join(map(str, sources))}: known are {sorted(VIDEO_SUFFIXES)}.")
    return dict(sorted(videos.items()))


def _expand(source: Path) -> list[Path]:
    if source.is_dir():
        return [path for path in sorted(source.rglob("*")) if _is_video(path)]
    if source.suffix == ".txt" and source.is_file():
        return [source.parent / line.strip() for line in source.read_text().splitlines() if line.strip()]
    return [source]


def _is_video(path: Path) -> bool:
    # On foreign file systems, macOS keeps a file's attributes in "._<name>" beside it.
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("._")
