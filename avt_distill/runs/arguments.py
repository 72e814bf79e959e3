"""The command line: declaring options, reading them from the command line or a YAML file, and refusing unknown ones.

Commands that do not train declare options with `CommandParser.add_argument`, like argparse; those that train declare a
dataclass on top of transformers' `TrainingArguments`, which `parse_run` reads. Heavy modules are imported only after
arguments are parsed, so that --help is fast.
"""

import argparse
import copy
import dataclasses
import difflib
import itertools
import json
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

Arguments = TypeVar("Arguments", bound="DataclassInstance")

# Frequently set `TrainingArguments`, listed by --help; the others are listed by --help_all.
OFTEN_SET = {
    "output_dir": "Folder of the run.",
    "learning_rate": "Highest learning rate.",
    "num_train_epochs": "Passes over the training rows.",
    "per_device_train_batch_size": "Examples per device and step.",
    "seed": "Of initial weights and the order of rows.",
    "use_cpu": "Train on the CPU even with a GPU; needed for several processes without one.",
    "bf16": "In bfloat16; auto: if it is native.",
    "push_to_hub": "Upload the result to the Hub.",
}
AUTO = "auto"
OR_AUTO = ("bf16", "bf16_full_eval")  # `TrainingArguments` that also accept `AUTO`
DATASET_POSITION = "dataset_position"  # a word of the command line; --dataset may also be in the YAML file
MERGE = "tag:yaml.org,2002:merge"  # of the key `<<` in YAML
FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")  # numbers that YAML 1.1 reads as text
TRUE, FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")  # as `HfArgumentParser` reads them
PLACEHOLDERS = {int: "N", float: "X", Path: "PATH"}


def option(help: str, default: Any = None, **kwargs: Any) -> Any:
    """Returns a dataclass field for an option; `help` is its text in `--help`, `kwargs` are passed to `field`."""
    given = kwargs if "default_factory" in kwargs else {"default": default, **kwargs}
    return dataclasses.field(metadata={"help": help}, **given)


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that accepts a YAML file of options first, and raises one-sentence errors.

    Options are spelled with underscores or hyphens. `--help` lists the command's own options; `--help_all` also the
    inherited ones.

    Args:
        command (`str`): The command's name, as typed after `avt-distill`.
        description (`str`): The command's docstring. Line breaks are kept, so that examples can be copied.
        passes_on (`bool`, *optional*, defaults to `False`): Whether unknown options are passed to another command; see
            `parse_known`.
    """

    def __init__(self, command: str, description: str | None, *, passes_on: bool = False, **kwargs):
        self.passes_on = passes_on
        names = {"prog": f"avt-distill {command}", "description": description, "formatter_class": _HelpFormatter}
        super().__init__(**names, allow_abbrev=False, add_help=False, **kwargs)
        self.add_argument("-h", "--help", "--help_all", action="help", help=argparse.SUPPRESS)

    def add_fields(self, arguments_class: type):
        """Adds an option for each field of a dataclass of `str`, `int` and `float`, all optional, under its `TITLE`."""
        group = self.add_argument_group(arguments_class.TITLE)
        fields = {field.name: field for field in dataclasses.fields(arguments_class)}
        for name, hint in typing.get_type_hints(arguments_class).items():
            if name in fields:
                kind = next(kind for kind in (str, float, int) if kind in (hint, *typing.get_args(hint)))
                group.add_argument(f"--{name}", type=kind, default=fields[name].default, **fields[name].metadata)

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Returns the options of a command line.

        Args:
            argv (`Sequence[str]`, *optional*): The words after the command's name. Default: those of the process.

        Raises:
            ValueError: In one sentence, if an option cannot be read or is not known.
        """
        known, rest = self.parse_known(argv)
        misplaced = [*rest, *(word for word in [getattr(known, "dataset", None)] if word and _is_yaml(word))]
        if misplaced:
            raise ValueError(self._not_understood(misplaced[0]))
        return known

    def parse_known(self, argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
        """Returns the known options, and the remaining words of the command line if `passes_on` is set.

        Raises:
            ValueError: See `parse`.
        """
        typed = list(sys.argv[1:] if argv is None else argv)
        path = typed.pop(0) if typed and _is_yaml(typed[0]) else None
        typed = [_with_home(self._with_underscores(option)) for option in typed]
        options = list(typed)
        if path is not None:
            words = list(itertools.takewhile(lambda word: not word.startswith("-"), options))
            if second := next(filter(_is_yaml, words), None):
                raise ValueError(f"{path} and {second} are two YAML files: give one, and other options as --key value.")
            # After positional words, which a list from the file would swallow; before options, since the last one wins.
            options[len(words) : len(words)] = map(_with_home, self._options_of_file(path, _read_yaml(path)))
        unknown = [
            word for word in options if word[:2] == "--" and word.split("=")[0] not in self._option_string_actions
        ]
        if unknown and not self.passes_on:  # raised before argparse reports a required option that is only misspelled
            raise ValueError(self._not_understood(unknown[0]))
        known, rest = self.parse_known_args(options)
        if DATASET_POSITION in known:
            _place_dataset(known, typed)
        return known, rest

    def error(self, message: str):
        raise ValueError(f"{message[:1].upper()}{message[1:].rstrip('.')}: see --help.")

    def format_help(self) -> str:
        self.usage = " ".join(["%(prog)s [options.yaml]", *self._words(), "[--option value ...]"])
        return super().format_help()

    def _words(self) -> list[str]:
        """Returns the positional words as `--help` shows them."""
        positional = [action for action in self._actions if not action.option_strings]
        words = [f"{action.metavar or action.dest}{' ...' * (action.nargs in ('*', '+'))}" for action in positional]
        return [f"[{word}]" if action.nargs == "?" else word for word, action in zip(words, positional, strict=True)]

    def _keys(self) -> dict[str, argparse.Action]:
        """Returns the action of each option by its name without hyphens."""
        options = self._option_string_actions.items()
        own = {name[2:]: action for name, action in options if name[:2] == "--" and action.dest != "help"}
        return {name: action for name, action in own.items() if "-" not in name}  # one spelling of two

    def _with_underscores(self, option: str) -> str:
        name, equals, value = option.partition("=")
        return name[:2] + name[2:].replace("-", "_") + equals + value if option.startswith("--") else option

    def _options_of_file(self, path: str, content: dict) -> list[str]:
        """Returns the options that say what a YAML file says; those of the command line come after them and win."""
        options, known = [], self._keys()
        names = [str(key).replace("-", "_") for key in content]
        for name, (key, value) in zip(names, content.items(), strict=True):
            if name not in known:
                raise ValueError(f"{path} sets '{key}', which is not known: {closest(name, known)}")
            if names.count(name) > 1:
                raise ValueError(f"{path} sets '{name}' with hyphens and with underscores: keep one of the two.")
            _check_json(path, key, value)
            if known[name].nargs == 0:
                options += [f"--{name}"] if _is_set(path, key, value) else []
            elif isinstance(value, list) and known[name].nargs in ("+", "*"):
                if not value:
                    raise ValueError(f"{path} gives '{key}' no values: leave it out or write null for the default.")
                options += [f"--{name}", *map(_text, value)]
            elif isinstance(value, list):
                if len(value) != 1:
                    raise ValueError(f"{path} gives '{key}' {len(value)} values, but it accepts one.")
                options.append(f"--{name}={_text(value[0])}")
            elif value is not None:
                options.append(f"--{name}={_text(value)}")
        return options

    def _not_understood(self, text: str) -> str:
        if _is_yaml(text):
            return f"Cannot place '{text}': the run's YAML file comes first, and options are written --key value."
        if not text.startswith("-"):
            words = ", ".join(self._words())
            only = f"give only {words} before the options" if words else "leave it out"
            return f"Cannot place '{text}': {only}; options are written --key value."
        option = text.split("=")[0]
        return f"The option {option} is not known: {closest(option.lstrip('-').replace('-', '_'), self._keys())}"


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the description's line breaks, names values briefly, and adds informative defaults."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=34)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = copy.copy(action)  # of --tau_a and --tau-a, which are one, the first
        shown.option_strings = [name for name in action.option_strings if "-" not in name.lstrip("-")]
        return super()._format_action_invocation(shown)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return "BOOL" if action.const is True else PLACEHOLDERS.get(action.type, "VALUE")

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        is_shown = action.option_strings and action.default not in (None, False, True, "", argparse.SUPPRESS)
        if not is_shown or action.default in ([], {}) or "default" in text.lower():
            return text
        stop = "." if text.endswith(".") else ""
        return f"{text.removesuffix('.')} (default: %(default)s){stop}"


def parse_run(
    arguments_class: type[Arguments],
    argv: Sequence[str] | None = None,
    *,
    description: str | None,
    command: str = "run",
) -> Arguments:
    """Parses the arguments of a command that trains, from an optional YAML file, which comes first, and options.

    The file's keys are fields of `arguments_class`. Each is turned into an option placed before those of the
    command line: a later one wins, and both go through the same parser, so that YAML's `1e-3`, which it reads as text,
    is a number here. A list gives several values, a mapping a JSON string; `null` leaves the field's default. `bf16:
    auto` is bfloat16 if the accelerator computes in it, so that one file serves every machine.

    Args:
        arguments_class (`type`): A dataclass for `HfArgumentParser`, such as a subclass of `TrainingArguments`.
            A field without a default is required; a field that holds a mapping is annotated `dict | str` and decodes
            text itself, as in `TrainingArguments`. `--help` groups the fields by the class that declares them, under
            its `TITLE`.
        argv (`Sequence[str]`, *optional*): The words after the command's name. Default: those of the process.
        description, command (`str`): See `CommandParser`.

    Raises:
        ValueError: In one sentence, if no option is given, or one cannot be read or is not known.
    """
    from transformers import HfArgumentParser, TrainingArguments

    options = list(sys.argv[1:] if argv is None else argv)
    show_all = "--help_all" in options
    if not options:
        raise ValueError(f"{command} needs options: avt-distill {command} --help shows examples and all of them.")

    class RunParser(CommandParser, HfArgumentParser):
        def _add_dataclass_arguments(self, dtype):
            hints, groups = typing.get_type_hints(dtype), {}
            for owner in dtype.__mro__:
                title = "training" if owner is TrainingArguments else vars(owner).get("TITLE", "this command")
                groups[owner] = self.add_argument_group(title)
            for field in filter(lambda field: field.init, dataclasses.fields(dtype)):
                declared = (
                    owner for owner in dtype.__mro__ if field.name in vars(owner).get("__dataclass_fields__", ())
                )
                *_, owner = declared  # not a class that only changes the default
                field.type = hints[field.name]
                self._parse_dataclass_field(groups[owner], field)
                if owner is TrainingArguments and not show_all:
                    self._option_string_actions[f"--{field.name}"].help = OFTEN_SET.get(field.name, argparse.SUPPRESS)
            for action in self._actions:
                if action.dest in OR_AUTO and action.type is not None:
                    action.type = _or_auto(action.type)
                if action.nargs == 0 and not show_all:  # --no_x of each option x that is true by default
                    action.help = argparse.SUPPRESS

    epilog = None if show_all else "--help_all lists the options of transformers' TrainingArguments, too."
    parser = RunParser(command, description, dataclass_types=arguments_class, epilog=epilog)
    if any(field.name == "dataset" for field in dataclasses.fields(arguments_class)):
        add_dataset_position(parser)
    given = vars(parser.parse(options))
    computes = {name: computes_in_bfloat16(given["use_cpu"]) for name in OR_AUTO if given.get(name) == AUTO}
    args = arguments_class(**given | computes)
    use_token(args)
    return args


def _or_auto(parse_other: Any) -> Callable[[str], Any]:
    """Returns a parser for the text of an option that also accepts `AUTO`."""

    def parse(text: str) -> Any:
        return AUTO if text.strip().lower() == AUTO else parse_other(text)

    parse.__name__ = "bool or auto"  # how argparse's messages call it
    return parse


def computes_in_bfloat16(use_cpu: bool) -> bool:
    """Returns whether training will run on an accelerator with native (not emulated) bfloat16."""
    import torch
    from transformers.utils import is_torch_bf16_gpu_available

    if use_cpu or not is_torch_bf16_gpu_available():
        return False
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


def use_token(args: Any):
    """Passes a token given as an option to the Hub's client, and removes it from the arguments.

    Otherwise `Trainer` would save it in `training_args.bin`, and commands in their records.

    Args:
        args (`TrainingArguments`): Those of a command; others without `hub_token` are left as they are.
    """
    if getattr(args, "hub_token", None):
        os.environ["HF_TOKEN"], args.hub_token = args.hub_token, None


def add_dataset_position(parser: argparse.ArgumentParser):
    """Accepts the data set without `--dataset`, as the last word before the options."""
    parser.add_argument(DATASET_POSITION, nargs="?", metavar="DATASET", help=argparse.SUPPRESS)


def _place_dataset(known: argparse.Namespace, typed: Sequence[str]):
    """Makes a data set given as a word the value of `--dataset`, before that of a YAML file.

    Args:
        known (`argparse.Namespace`): All options; the word is removed.
        typed (`Sequence[str]`): The words of the command line without those of the YAML file.

    Raises:
        ValueError: If the command line gives two data sets.
    """
    given = [vars(known).pop(DATASET_POSITION)]
    for word, following in itertools.zip_longest(typed, typed[1:]):
        name, equals, value = word.partition("=")
        if name == "--dataset":
            given.append(value if equals else following)
    names = list(dict.fromkeys(name for name in given if name is not None))
    if len(names) > 1:
        raise ValueError(f"'{names[0]}' and '{names[1]}' are two data sets: give one of them.")
    if names:
        known.dataset = names[0]


def mapping(name: str, value: dict | str | None) -> dict:
    """Returns the mapping of an option, which is JSON text on a command line.

    Raises:
        ValueError: If the text is not a JSON object.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name} is '{value}': give a JSON object, such as {{\"a\": 1}}.") from error
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r}: give names and values.")
    return value or {}


def _with_home(word: str) -> str:
    """Returns a word or `--option=value` with the path of the home folder for a leading `~`.

    Shells expand it only at the beginning of a word, and not in YAML files.
    """
    name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    is_in_home = value == "~" or value.startswith(("~/", f"~{os.sep}"))
    return f"{name}{equals}{os.path.expanduser(value)}" if is_in_home else word


def _is_yaml(word: str) -> bool:
    return word.endswith((".yaml", ".yml")) and not word.startswith("-")


def _read_yaml(path: str) -> dict:
    import yaml

    class UniqueLoader(yaml.SafeLoader):
        """Refuses mappings with a repeated key, of which YAML would keep only the last value."""

        def compose_mapping_node(self, anchor):
            node = super().compose_mapping_node(anchor)
            names = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:  # not other mappings, merged by `<<`
                    if key.value in names:
                        line = key.start_mark.line + 1
                        raise ValueError(f"{path}, line {line}, sets '{key.value}' again: keep one of the two.")
                    names.add(key.value)
            return node

    class NumberLoader(UniqueLoader):
        """Reads `1e-3` as a number, as YAML 1.2 and JSON do."""

    NumberLoader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
    try:
        text = Path(path).read_text(encoding="utf-8")
        # Top-level values stay text, since the parser converts them by the option's type: a name may be `1e3`.
        content, with_numbers = yaml.load(text, UniqueLoader), yaml.load(text, NumberLoader)
    except OSError as error:
        raise ValueError(
            f"Cannot read the run's file {path} ({error.strerror}): give a YAML file first, then --key value."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: write one `key: value` a line.")
    return {key: with_numbers[key] if isinstance(value, dict) else value for key, value in content.items()}


def _check_json(path: str, key: str, value: Any):
    """Raises `ValueError` for a value of a YAML file that JSON cannot hold, such as a list that contains itself."""
    try:
        json.dumps(value, default=str)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} gives '{key}' a value that JSON cannot hold ({error}): correct it.") from error


def _is_set(path: str, key: str, value: Any) -> bool:
    """Returns whether a YAML file sets a flag. Raises `ValueError` for values that are not truth values."""
    text = _text(value).lower()
    if value is not None and text not in (*TRUE, *FALSE):
        raise ValueError(f"{path} sets '{key}' to {value!r}: give true or false.")
    return text in TRUE


def _text(value: Any) -> str:
    """Returns a YAML value as text for the command line."""
    return json.dumps(value, default=str) if isinstance(value, (bool, dict, list)) else str(value)


def closest(name: str, known: Iterable[str], *, otherwise: str = "see --help.") -> str:
    """Returns the end of a message about an unknown name: similar known names or, without any, `otherwise`."""
    found = difflib.get_close_matches(name, sorted(known), n=3)
    return f"did you mean {' or '.join(found)}?" if found else otherwise
