"""Annotations, label spaces, history, features: everything between a benchmark's files and a batch."""

from .labels import LabelSpace

__all__ = ["LabelSpace", "load_anticipation_dataset"]


def load_anticipation_dataset(name_or_path: str, **builder_kwargs):
    """Returns the splits of a benchmark, or of one's own data, as a `datasets.DatasetDict` of anticipation rows.

    Args:
        name_or_path (`str`): `"epic_kitchens_55"`, `"epic_kitchens_100"`, `"egtea_gaze_plus"`, `"fifty_salads"` or
            `"demo"`, with `data_dir` among the options; or a folder with `segments.csv`.
        builder_kwargs: `config_name`, `data_dir`, `videos`, `cache_dir`, and the options of `rows.RowOptions`.

    Raises:
        ValueError: for another name.
        AnnotationError: where the annotations cannot be meant as they stand.
    """
    # The builders bring in `datasets` and pandas, which metrics and label spaces do without.
    from .loading import prepare

    return prepare(name_or_path, **builder_kwargs)
