"""Folders that a clone keeps at its top, for people to find, and a wheel inside the package."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(name: str) -> Path:
    """Returns `hub_cards`, `space` or `configs/demo`, wherever this package is installed from.

    `[tool.setuptools.package-dir]` in pyproject.toml puts them into `avt_distill/shipped/` of a wheel.
    """
    in_wheel = PACKAGE / "shipped" / name
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / name
