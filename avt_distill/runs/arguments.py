"""The command line of training scripts: the YAML file of a run, and options that override it."""

import dataclasses
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from transformers import HfArgumentParser

Arguments = TypeVar("Arguments")


def parse_run(arguments_class: type[Arguments], argv: Sequence[str] | None = None, *, description: str) -> Arguments:
    """Returns the arguments of a run, from an optional YAML file, the first argument, and `--key value` options.

    The file's keys are fields of `arguments_class`. Each is turned into an option that stands before those of the
    command line: a later one wins, and both go through the same parser, so that YAML's `1e-3`, which it reads as text,
    is a number here. A list gives several values, a mapping a JSON string; `null` leaves the field's default.

    Args:
        arguments_class (`type`): A dataclass that `HfArgumentParser` takes, such as a subclass of `TrainingArguments`.
            A field without a default is required; a field that holds a mapping is annotated `dict | str` and decodes
            text itself, as in `TrainingArguments`.
        argv (`Sequence[str]`, *optional*): The arguments after the script's name; those of the process by default.
        description (`str`): What `--help` says first.

    Raises:
        ValueError: in one sentence, for what cannot be read or is not known.
    """
    parser = _Parser(
        arguments_class, usage="%(prog)s [run.yaml] [--key value ...]", description=description, allow_abbrev=False
    )
    options = list(sys.argv[1:] if argv is None else argv)
    if options and not options[0].startswith("-"):
        path = options.pop(0)
        options = _options_of_file(path, _read_yaml(path), parser) + options
    namespace, left = parser.parse_known_args(options)
    if left:
        raise ValueError(_not_understood(left[0], parser))
    return arguments_class(**vars(namespace))


class _Parser(HfArgumentParser):
    def error(self, message: str):
        raise ValueError(f"{message[:1].upper()}{message[1:].rstrip('.')}: see --help.")

    def keys(self) -> dict[str, Any]:
        """Returns the argparse action of each field."""
        fields = {field.name for cls in self.dataclass_types for field in dataclasses.fields(cls) if field.init}
        return {name: self._option_string_actions[f"--{name}"] for name in fields}


def _read_yaml(path: str) -> dict:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
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
    return content


def _options_of_file(path: str, content: dict, parser: _Parser) -> list[str]:
    """Returns the options that say what a YAML file says."""
    options, known = [], parser.keys()
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise ValueError(f"{path} sets '{key}', which is not known{_closest(name, known)}.")
        if isinstance(value, list) and known[name].nargs == "+":
            if not value:
                raise ValueError(f"{path} gives '{key}' no values: leave it out or write null for the default.")
            options += [f"--{name}", *map(_text, value)]
        elif isinstance(value, list):
            if len(value) != 1:
                raise ValueError(f"{path} gives '{key}' {len(value)} values: it takes one.")
            options.append(f"--{name}={_text(value[0])}")
        elif value is not None:
            options.append(f"--{name}={_text(value)}")
    return options


def _text(value: Any) -> str:
    """Returns a YAML value as one would type it."""
    return json.dumps(value) if isinstance(value, (bool, dict, list)) else str(value)


def _not_understood(text: str, parser: _Parser) -> str:
    if not text.startswith("-"):
        return f"Cannot place '{text}': the run's YAML file comes first, and options are written --key value."
    option = text.split("=")[0]
    return f"The option {option} is not known{_closest(option.lstrip('-').replace('-', '_'), parser.keys())}."


def _closest(name: str, known: dict) -> str:
    found = difflib.get_close_matches(name, sorted(known), n=3)
    return f": did you mean {' or '.join(found)}?"[:-1] + "?" if found else ": see --help"
