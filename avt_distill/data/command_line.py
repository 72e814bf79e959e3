"""The options by which every script names a data set."""

import argparse

import yaml

from .builder import AnticipationBuilder
from .loading import anticipation_builder


def add_dataset_arguments(parser: argparse.ArgumentParser):
    """Adds `dataset`, `--data_dir`, `--videos`, `--config_name`, `--cache_dir` and `--set` to a script's arguments."""
    parser.add_argument("dataset", help="name of a benchmark, or a folder with segments.csv")
    parser.add_argument("--data_dir", help="folder of the benchmark's annotation files")
    parser.add_argument("--videos", help="folder of the videos")
    parser.add_argument("--config_name", help="such as rulstm, official, split1 or fold1")
    parser.add_argument(
        "--set", type=_setting, nargs="*", default=[], metavar="NAME=VALUE", help="further options, such as tau_a=0.5"
    )
    parser.add_argument("--cache_dir", help="where data sets are cached")


def dataset_builder(args: argparse.Namespace) -> AnticipationBuilder:
    """Returns the builder that parsed arguments name.

    Raises:
        ValueError, TypeError: for a data set that is not there, and options that it does not have.
    """
    named = {name: getattr(args, name) for name in ("data_dir", "videos", "config_name", "cache_dir")}
    given = {name: value for name, value in named.items() if value is not None}
    return anticipation_builder(args.dataset, **{**dict(args.set), **given})


def _setting(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, yaml.safe_load(value)
    except (ValueError, yaml.YAMLError) as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a setting: give NAME=VALUE") from error
