"""The oldest releases that this folder runs on, refused by name before they fail somewhere else."""

import platform
from importlib import metadata

from packaging.version import Version

# `benchmarks/versions.py` runs a checkpoint on these and on all releases since: docs/versions.md has its table.
MINIMUM_VERSIONS = {"Python": "3.10", "torch": "2.6", "transformers": "4.57", "numpy": "1.26"}
MINIMUM_OF_VIDEOS = {"av": "15.0"}  # needed only where a video is read or written


def check_versions(least: dict[str, str]):
    """Raises `ImportError` where something installed is older than it has to be, naming both releases."""
    for name, needed in least.items():
        found = platform.python_version() if name == "Python" else metadata.version(name)
        if Version(found) < Version(needed):
            remedy = "use a newer Python" if name == "Python" else f"pip install --upgrade '{name}>={needed}'"
            raise ImportError(f"This model needs {name} {needed} or newer, and {found} is installed: {remedy}.")


check_versions(MINIMUM_VERSIONS)
