"""From the name of a benchmark, or a folder, to its data set."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import datasets

from .benchmarks.demo import DemoKitchen
from .benchmarks.egtea import EgteaGazePlus
from .benchmarks.epic_kitchens import EpicKitchens55, EpicKitchens100
from .benchmarks.fifty_salads import FiftySalads
from .benchmarks.own_data import OwnData
from .builder import AnticipationBuilder

BUILDERS = {
    "epic_kitchens_55": EpicKitchens55,
    "epic_kitchens_100": EpicKitchens100,
    "egtea": EgteaGazePlus,
    "fifty_salads": FiftySalads,
    "demo": DemoKitchen,
    "csv": OwnData,
}


def anticipation_builder(name_or_path: str, **builder_kwargs) -> AnticipationBuilder:
    """Returns the builder behind `load_anticipation_dataset`, which also knows the label space and what is left out.

    Args:
        name_or_path, builder_kwargs: See `load_anticipation_dataset`.

    `builder.annotations.label_space` is the `LabelSpace`, `builder.dropped` the uids of each split's actions that start
    too early to be anticipated.
    """
    if name_or_path not in BUILDERS:
        if not (Path(name_or_path) / "segments.csv").exists():
            known = ", ".join(BUILDERS)
            raise ValueError(f"'{name_or_path}' is neither a benchmark ({known}) nor a folder with segments.csv.")
        name_or_path, builder_kwargs = "csv", {"data_dir": name_or_path, **builder_kwargs}
    builder_class = BUILDERS[name_or_path]
    options = [option.name for option in fields(builder_class.BUILDER_CONFIG_CLASS)]
    if unknown := sorted(set(builder_kwargs) - {*options, "config_name", "cache_dir", "hash"}):
        raise ValueError(f"'{unknown[0]}' is no option of {builder_class.__name__}: give some of {sorted(options)}.")
    return builder_class(**builder_kwargs)


def load_anticipation_dataset(name_or_path: str, **builder_kwargs) -> datasets.DatasetDict:
    """Returns the splits of a benchmark, or of one's own data: rows of anticipation, built once and then cached.

    Args:
        name_or_path (`str`): `"epic_kitchens_55"`, `"epic_kitchens_100"`, `"egtea"`, `"fifty_salads"`, `"demo"` or
            `"csv"`, with `data_dir` among the options; or a folder with `segments.csv`, which is short for the last.
        builder_kwargs: `config_name`, `data_dir`, `videos`, `cache_dir`, and the options of `rows.RowOptions`.

    Raises:
        ValueError: for another name, and options out of range.
        AnnotationError: where the annotations cannot be meant as they stand.
    """
    builder = anticipation_builder(name_or_path, **builder_kwargs)
    builder.download_and_prepare()
    return builder.as_dataset()


@dataclass
class DatasetArguments:
    """Which data set a run reads, as its YAML file and command line say it."""

    dataset: str | None = field(
        default=None, metadata={"help": f"Name of a benchmark ({', '.join(BUILDERS)}), or a folder with segments.csv."}
    )
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the benchmark's annotation files."})
    videos: str | None = field(default=None, metadata={"help": "Folder of the videos, searched in depth."})
    config_name: str | None = field(default=None, metadata={"help": "Such as rulstm, split1_complete or fold1."})
    dataset_options: dict | str | None = field(
        default=None, metadata={"help": 'Options of its rows, such as {"history_cutoff": "ended"}.'}
    )

    def builder(self) -> AnticipationBuilder:
        """Returns the data set's builder.

        Raises:
            ValueError: without a data set, and for options that are no JSON object or that rows do not have.
        """
        if self.dataset is None:
            raise ValueError(f"dataset is not given: name a benchmark ({', '.join(BUILDERS)}) or a folder.")
        options = self.dataset_options or {}
        if isinstance(options, str):
            try:
                options = json.loads(options)
            except json.JSONDecodeError as error:
                raise ValueError(f"dataset_options is '{options}': give JSON, such as {{\"tau_a\": 0.5}}.") from error
        named = {"data_dir": self.data_dir, "config_name": self.config_name, "videos": self.videos}
        options = {**{name: value for name, value in named.items() if value is not None}, **options}
        return anticipation_builder(self.dataset, **options)


def choose_splits(args, builder: AnticipationBuilder):
    """Sets `args.evaluation_split` where it is `None`, and refuses splits that the data set does not have.

    Args:
        args: Has `train_split` and `evaluation_split`.
        builder (`AnticipationBuilder`): The data set.

    Raises:
        ValueError: for a split that the data set does not have.
    """
    splits = list(builder.annotations.splits)
    if args.evaluation_split is None:
        args.evaluation_split = next((name for name in ("validation", "test") if name in splits), None)
    for name in ("train_split", "evaluation_split"):
        if getattr(args, name) not in splits:
            raise ValueError(f"{name} is {getattr(args, name)!r}, but the splits are {splits}: give one of them.")
