"""The folder of a run: files that are there whole or not at all, settings by which only the same run resumes."""

import json
import os
import textwrap
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTINGS = "settings.json"  # written when training starts
ARGUMENTS = "arguments.yaml"  # the options of a run, with which other commands take it up
LONGEST_LIST = 12  # names in an error message
ANOTHER_RUN = (
    "{place} holds {what} with {name} {found!r}, not {wanted!r} (all that differ: {different}): give another "
    "output_dir, or delete that one."
)
NOT_RECORDED = (
    "{place} was written by a version that did not record {names}: whether they have changed since cannot be checked, "
    "so give another output_dir, or delete that one."
)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a path in the same folder to write to, and renames it to `path` when the block ends without an error.

    Every file that is read again is written this way: an interrupted process leaves the old file, or none.
    """
    path = Path(path)
    # Not by `tempfile`, whose files only their owner may read; unique, as several processes may write at once.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str):
    """Writes UTF-8 text, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any):
    """Writes JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def growing_json(path: str | Path, content: dict, name: str) -> Iterator[Callable[[Any], None]]:
    """Yields a function that appends to the list `name` of a JSON object, which otherwise holds `content`.

    The file is valid JSON after each call, however the process ends.
    """
    empty = json.dumps({**content, name: []}, indent=1, ensure_ascii=False)
    end = "]\n}\n"
    with open(path, "wb", buffering=0) as file:
        at = file.write(empty.removesuffix("]\n}").encode())
        file.write(end.encode())
        separator = "\n"

        def append(item: Any):
            nonlocal at, separator
            text = separator + textwrap.indent(json.dumps(item, indent=1, ensure_ascii=False), "  ")
            file.seek(at)
            file.write(f"{text}\n {end}".encode())  # in one call, so that no interruption comes between its parts
            at, separator = at + len(text.encode()), ",\n"

        yield append


def read_json(path: str | Path, **kwargs: Any) -> Any:
    """Returns the content of a JSON file; `kwargs` are those of `json.loads`.

    Raises:
        ValueError: for a file that is not JSON, naming it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), **kwargs)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it and rerun the command that writes it.") from error


def keep_settings(
    path: str | Path, settings: dict, *, should_save: bool = True, refusal: str = ANOTHER_RUN, **names: str
):
    """Writes the settings of a run that begins, or checks that the run that wrote the file had the same.

    Args:
        path (`str` or `Path`): JSON file.
        settings (`dict`): What decides about the run's results; anything that JSON holds.
        should_save (`bool`, *optional*, defaults to `True`): Whether this process is the one that writes.
        refusal, names (*optional*): See `refuse_other_settings`; `{place}` is the file's folder. The default refusal
            has the field `{what}`, what lies in the folder: "a teacher".

    Raises:
        ValueError: where settings differ.
    """
    path, settings = Path(path), json.loads(json.dumps(settings))
    if path.exists():
        refuse_other_settings(read_json(path), settings, refusal=refusal, place=path.parent, **names)
    elif should_save:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)


def refuse_other_settings(found: dict, settings: dict, *, refusal: str, **names):
    """Raises a `ValueError` unless all settings are found to be equal.

    Args:
        found (`dict`): The settings of the run that began.
        settings (`dict`): Those of this run; what they do not name is not compared.
        refusal (`str`): The message, with the fields `{name}` of the first that differs, `{found}`, `{wanted}`,
            `{different}`, the names of all that differ, and those of `names`. Of mappings the keys that differ are
            named, as in `training_rows.start_s`.
    """
    if not_recorded := [name for name in settings if name not in found and settings[name] not in (None, {})]:
        different = [name for name in settings if name in found and found[name] != settings[name]]
        if not different and "place" in names:
            raise ValueError(NOT_RECORDED.format(place=names["place"], names=", ".join(not_recorded)))
    if different := _differences(found, settings):
        name, (value, wanted) = next(iter(different.items()))
        values = {"name": name, "found": value, "wanted": wanted, "different": _first_of(list(different))}
        raise ValueError(refusal.format(**values, **names))


def _differences(found: Mapping, wanted: Mapping, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Returns what was found and what is wanted of each setting that differs, by its name."""
    different = {}
    for name in wanted if not prefix else dict.fromkeys([*wanted, *found]):
        value, other = found.get(name), wanted.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            different |= _differences(value, other, f"{prefix}{name}.")
        elif value != other:
            different[f"{prefix}{name}"] = (value, other)
    return different


def _first_of(names: list[str]) -> list[str]:
    """Returns names as a message lists them: of many, the first and how many there are."""
    return names if len(names) <= LONGEST_LIST else [*names[:LONGEST_LIST], f"and {len(names) - LONGEST_LIST} more"]


def last_whole_checkpoint(folder: str | Path) -> str | None:
    """Returns the newest of a `Trainer`'s checkpoints in a folder that was written to its end, or `None`.

    `Trainer` writes `trainer_state.json` last. A checkpoint without it, or with half of it, was interrupted mid-write
    and cannot be resumed.
    """
    from transformers.trainer import TRAINER_STATE_NAME  # seconds to import, and not every command needs it

    checkpoints = [path for path in Path(folder).glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for checkpoint in sorted(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((checkpoint / TRAINER_STATE_NAME).read_text())
        except (OSError, json.JSONDecodeError):
            continue
        return str(checkpoint)
    return None


def check_processes(num_processes: int, option: str = "--use_cpu"):
    """Refuses processes that do not know of each other, each of which would do the whole work and write the result.

    Without an accelerator, `torchrun` and `accelerate launch` start processes that stay alone until an option makes
    them use the CPU.

    Args:
        num_processes (`int`): The processes that work together as Accelerate counts them, such as
            `TrainingArguments.world_size`.
        option (`str`, *optional*, defaults to `"--use_cpu"`): The command's option for using the CPU.

    Raises:
        ValueError: where more were launched.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != num_processes:
        raise ValueError(
            f"{launched} processes were launched, but each runs alone: without an accelerator give {option}."
        )
