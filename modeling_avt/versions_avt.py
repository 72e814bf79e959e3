"""The oldest releases that this folder runs on, refused by name before they fail somewhere else."""

import platform
from importlib import metadata

from packaging.version import Version

# `tests/versions/environments.py` runs checkpoints on these and on newer ones: docs/versions.md has its table.
MINIMUM_VERSIONS = {"Python": "3.10", "torch": "2.6", "transformers": "4.57", "numpy": "1.26"}
MINIMUM_OF_VIDEOS = {"av": "15.0"}  # needed only when a video is read or written
# Before, `pipeline("video-classification")` picked a video's frames itself: not those that a model observes.
MINIMUM_OF_VIDEO_CLASSIFICATION = {"transformers": "5.15"}


def check_versions(least: dict[str, str], of: str = "This model"):
    """Raises `ImportError` if something installed is older than it has to be, naming both releases.

    Args:
        least (`dict[str, str]`): The oldest release of each package, or of Python.
        of (`str`, *optional*): What needs them, as the beginning of a sentence.
    """
    for name, needed in least.items():
        found = platform.python_version() if name == "Python" else metadata.version(name)
        if Version(found) < Version(needed):
            remedy = f"pip install --upgrade '{name}>={needed}'" if name != "Python" else "use a newer one"
            raise ImportError(f"{of} needs {name} {needed} or newer, and {found} is installed: {remedy}.")


check_versions(MINIMUM_VERSIONS)
