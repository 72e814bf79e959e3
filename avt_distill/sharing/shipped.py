"""Folders that are at the top of a clone, but inside the package in a wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(name: str) -> Path:
    """Returns `hub_cards`, `space` or `configs/demo`, wherever this package is installed from.

    `[tool.setuptools.package-dir]` in pyproject.toml maps them to `avt_distill/shipped/` in a wheel.
    """
    in_wheel = PACKAGE / "shipped" / name
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / name
