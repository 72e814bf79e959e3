"""Annotations, label spaces, history, features: everything between a benchmark's files and a batch."""

from .labels import LabelSpace

__all__ = ["LabelSpace", "anticipation_builder", "load_anticipation_dataset"]


def __getattr__(name: str):
    # The builders import `datasets`, which metrics and label spaces do without.
    if name in ("anticipation_builder", "load_anticipation_dataset"):
        from . import loading

        return getattr(loading, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
