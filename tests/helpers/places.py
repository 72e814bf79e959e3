"""Where the project lies, and the recorded or real data beside it."""

from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared"


def require_shared(*parts: str) -> Path:
    """The path of recorded or real data beside the checkout; skips the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {Path('..', 'shared', *parts)}, which is not part of the repository")
    return path
