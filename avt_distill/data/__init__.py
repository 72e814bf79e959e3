"""Data: annotations, label spaces, anticipation rows, histories and collators."""

from .labels import LabelSpace

__all__ = ["LabelSpace", "anticipation_builder", "load_anticipation_dataset"]


def __getattr__(name: str):
    # Imported lazily: the builders need `datasets`, which metrics and label spaces do not.
    if name in ("anticipation_builder", "load_anticipation_dataset"):
        from . import loading

        return getattr(loading, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
