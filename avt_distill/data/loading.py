"""Loading a data set by the name of its benchmark, or from a folder."""

import logging
from dataclasses import fields
from pathlib import Path

import datasets

from ..runs.arguments import mapping
from .arguments import DatasetArguments
from .benchmarks.breakfast import Breakfast
from .benchmarks.demo import DemoKitchen
from .benchmarks.ego4d_lta import Ego4dLta
from .benchmarks.egtea import EgteaGazePlus
from .benchmarks.epic_kitchens import EpicKitchens55, EpicKitchens100
from .benchmarks.epic_tent import EpicTent
from .benchmarks.fifty_salads import FiftySalads
from .benchmarks.own_data import OwnData
from .builder import AnticipationBuilder

logger = logging.getLogger(__name__)

BUILDERS = {
    "epic_kitchens_55": EpicKitchens55,
    "epic_kitchens_100": EpicKitchens100,
    "egtea": EgteaGazePlus,
    "fifty_salads": FiftySalads,
    "breakfast": Breakfast,
    "epic_tent": EpicTent,
    "ego4d_lta": Ego4dLta,
    "demo": DemoKitchen,
    "csv": OwnData,
}


def anticipation_builder(name_or_path: str, **builder_kwargs) -> AnticipationBuilder:
    """Returns the builder that `load_anticipation_dataset` uses.

    `builder.annotations.label_space` is the `LabelSpace`, `builder.dropped` the uids of each split's actions that start
    too early to be anticipated.

    Args:
        name_or_path, builder_kwargs: See `load_anticipation_dataset`.

    Returns:
        `AnticipationBuilder`: The builder of the data set.

    Raises:
        ValueError: If the name is unknown, or an option does not belong to the builder or is out of range.
    """
    if name_or_path not in BUILDERS:
        if not (Path(name_or_path) / "segments.csv").exists():
            known = ", ".join(BUILDERS)
            raise ValueError(f"'{name_or_path}' is neither a benchmark ({known}) nor a folder with segments.csv.")
        other = builder_kwargs.get("data_dir", name_or_path)
        if other is not None and Path(other).resolve() != Path(name_or_path).resolve():
            raise ValueError(f"The data set is the folder '{name_or_path}', and data_dir is '{other}': give only one.")
        name_or_path, builder_kwargs = "csv", {**builder_kwargs, "data_dir": name_or_path}
    builder_class = BUILDERS[name_or_path]
    configurations = [config.name for config in builder_class.BUILDER_CONFIGS]
    for name in ("config_name", "name"):
        if builder_kwargs.get(name) not in (None, *configurations):
            raise ValueError(f"{name} is '{builder_kwargs[name]}': give one of {configurations}.")
    options = [option.name for option in fields(builder_class.BUILDER_CONFIG_CLASS)]
    if unknown := sorted(set(builder_kwargs) - {*options, "config_name", "cache_dir", "hash"}):
        raise ValueError(
            f"'{unknown[0]}' is not an option of {builder_class.__name__}: give some of {sorted(options)}."
        )
    return builder_class(**builder_kwargs)


def load_anticipation_dataset(name_or_path: str, **builder_kwargs) -> datasets.DatasetDict:
    """Returns the splits of a benchmark or of user data: anticipation rows, built once and then cached.

    Args:
        name_or_path (`str`): `"epic_kitchens_55"`, `"epic_kitchens_100"`, `"egtea"`, `"fifty_salads"`, `"breakfast"`,
            `"epic_tent"`, `"ego4d_lta"`, `"demo"` or `"csv"`, with the option `data_dir`; or a folder with
            `segments.csv`, which is short for `"csv"`.
        builder_kwargs: `config_name`, `data_dir`, `videos`, `cache_dir`, and the options of `rows.RowOptions` and the
            benchmark.

    Returns:
        `datasets.DatasetDict`: The rows of each split, with the columns of `rows.anticipation_rows` and `video`.

    Raises:
        ValueError: If the name is unknown, or an option is out of range.
        AnnotationError: If the annotations are inconsistent.
    """
    builder = anticipation_builder(name_or_path, **builder_kwargs)
    builder.download_and_prepare()
    return builder.as_dataset()


def dataset_builder(args) -> AnticipationBuilder:
    """Returns the builder of the data set that a command's options select.

    Args:
        args (`DatasetArguments`): The options.

    Raises:
        ValueError: If no data set is given, or an option does not belong to it.
    """
    if args.dataset is None:
        raise ValueError(f"dataset is None: give the name of a benchmark ({', '.join(BUILDERS)}) or a folder.")
    options = mapping("dataset_options", args.dataset_options)
    if options:
        logger.warning("dataset_options is deprecated: write its keys as separate options, such as tau_a: 0.5.")
    names = {option.name for option in fields(DatasetArguments)} - {"dataset", "dataset_options"}
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return anticipation_builder(args.dataset, **{**options, **given})


def choose_splits(args, builder: AnticipationBuilder):
    """Sets `args.evaluation_split` if it is `None`, and checks that the data set has both splits.

    Args:
        args: Options with `train_split` and `evaluation_split`.
        builder (`AnticipationBuilder`): The data set.

    Raises:
        ValueError: If the data set does not have a split.
    """
    splits = list(builder.annotations.splits)
    if args.evaluation_split is None:
        args.evaluation_split = next((name for name in ("validation", "test") if name in splits), None)
    for name in ("train_split", "evaluation_split"):
        if getattr(args, name) not in splits:
            raise ValueError(f"{name} is {getattr(args, name)!r}, but the splits are {splits}: give one of them.")
