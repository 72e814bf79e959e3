"""The folder of the project, and of the recorded or real data next to it."""

from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared"


def require_shared(*parts: str) -> Path:
    """Returns the path of recorded or real data next to the checkout; skips the test if it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {Path('..', 'shared', *parts)}, which is not part of the repository")
    return path
