"""Minimum versions of Python and packages, checked first so that old releases raise a clear error."""

import platform
from importlib import metadata

from packaging.version import Version

# `tests/versions/environments.py` runs checkpoints on these and on newer ones: docs/versions.md has its table.
MINIMUM_VERSIONS = {"Python": "3.10", "torch": "2.6", "transformers": "4.57", "numpy": "1.26"}
MINIMUM_OF_VIDEOS = {"av": "15.0"}  # needed only to read or write videos
# Earlier releases of `pipeline("video-classification")` sampled frames themselves, other ones than the model observes.
MINIMUM_OF_VIDEO_CLASSIFICATION = {"transformers": "5.15"}


def check_versions(least: dict[str, str], of: str = "This model"):
    """Raises `ImportError` if an installed package is too old. The message names both versions.

    Args:
        least (`dict[str, str]`): The minimum version of each package, or of Python.
        of (`str`, *optional*, defaults to `"This model"`): What needs them, as the subject of the message.
    """
    for name, needed in least.items():
        found = platform.python_version() if name == "Python" else metadata.version(name)
        if Version(found) < Version(needed):
            remedy = f"pip install --upgrade '{name}>={needed}'" if name != "Python" else "use a newer one"
            raise ImportError(f"{of} needs {name} {needed} or newer, and {found} is installed: {remedy}.")


check_versions(MINIMUM_VERSIONS)
