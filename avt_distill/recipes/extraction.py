"""Resumable extraction of the actions of a file of recipes."""

import hashlib
import json
from collections import Counter
from itertools import islice, tee
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub.utils import tqdm

from ..runs.folder import keep_settings, move_whole, whole_file
from ..runs.lock import locked
from .actions import extract_actions, load_parser
from .files import read_actions, read_recipes
from .language import are_english

SUFFIXES = (".jsonl", ".parquet")
SCHEMA = pa.schema({"id": pa.string(), "title": pa.string(), "actions": pa.list_(pa.list_(pa.string()))})
ROWS_AT_ONCE = 10_000
OTHER_INPUT = (
    "{unfinished} was begun with other {name} ({found}, not {wanted}): remove it, or give another --output, otherwise "
    "one file would hold two kinds of rows."
)


def extract_file(recipes: Path, output: Path, *, parser_name: str | None = None, num_proc: int = 1) -> int:
    """Writes the actions of a file's recipes, one row per recipe, and returns the number of recipes parsed in this
    call.

    Until the output is complete, it is stored as `<output>.unfinished`, from which an interrupted call resumes.

    Args:
        recipes (`Path`): See `read_recipes`.
        output (`Path`): File to write, `.jsonl` or `.parquet`.
        parser_name (`str`, *optional*): See `load_parser`.
        num_proc (`int`, *optional*, defaults to 1): Processes that parse.

    Raises:
        ValueError: If the output exists or has another suffix, the recipes cannot be read, or the unfinished output was
            begun with other recipes or another parser.
    """
    if output.suffix not in SUFFIXES:
        raise ValueError(f"--output {output}: give a name that ends in {' or '.join(SUFFIXES)}.")
    with locked(output, is_file=True):
        return _extract_file(recipes, output, parser_name, num_proc)


def _extract_file(recipes: Path, output: Path, parser_name: str | None, num_proc: int) -> int:
    unfinished = output.with_name(f"{output.name}.unfinished")
    if output.exists():
        for path in (unfinished, _settings_file(unfinished)):
            path.unlink(missing_ok=True)  # of a process that was killed after the output was whole
        raise ValueError(f"{output} exists and is complete: remove it, or give another --output.")
    total = sum(1 for _ in read_recipes(recipes))  # refuses what cannot be read before hours are spent
    if not total:
        raise ValueError(f"{recipes} holds no recipes.")
    parser = load_parser(parser_name)
    model = f"{parser.meta['lang']}_{parser.meta['name']} {parser.meta['version']}"
    _keep_input(unfinished, {"recipes": _checksum(recipes), "parser": model})
    done = _drop_half_line(unfinished)
    rows, parsed = tee(islice(read_recipes(recipes), done, None))  # parsing reads a batch ahead
    actions = extract_actions((recipe["instructions"] for recipe in parsed), parser, num_proc=num_proc)
    with open(unfinished, "a", encoding="utf-8", newline="\n", buffering=1) as file:
        for recipe, found in zip(rows, tqdm(actions, initial=done, total=total, unit="recipe"), strict=True):
            row = {"id": recipe["id"], "title": recipe["title"], "actions": found}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    _finish(unfinished, output)
    return total - done


def count_actions(output: Path) -> tuple[int, int, Counter]:
    """Returns the number of recipes, of those without an action, and how often each (verb, object) pair comes."""
    recipes, without, pairs = 0, 0, Counter()
    for _, actions in read_actions(output):
        recipes += 1
        without += not actions
        pairs.update(actions)
    return recipes, without, pairs


def count_left_out(recipes: Path) -> tuple[int, int]:
    """Returns how many instructions of a file's recipes are not English and were left out, and how many there are."""
    left_out = total = 0
    for recipe in read_recipes(recipes):
        english = are_english(recipe["instructions"])
        left_out, total = left_out + english.count(False), total + len(english)
    return left_out, total


def _keep_input(unfinished: Path, settings: dict[str, str]):
    """Records the inputs of an unfinished output, and raises `ValueError` if it was begun with other inputs."""
    path = _settings_file(unfinished)
    if not unfinished.exists():
        path.unlink(missing_ok=True)
    elif not path.exists():
        raise ValueError(f"{unfinished} has no {path.name}, so its settings are unknown: remove it and rerun.")
    keep_settings(path, settings, refusal=OTHER_INPUT, unfinished=str(unfinished))


def _settings_file(unfinished: Path) -> Path:
    return unfinished.with_name(f"{unfinished.name}.json")


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _drop_half_line(unfinished: Path) -> int:
    """Returns the number of whole lines of the unfinished output, after cutting off what follows them."""
    with open(unfinished, "a+b") as file:
        file.seek(0)
        whole = [len(line) for line in file if line.endswith(b"\n")]
        file.truncate(sum(whole))
    return len(whole)


def _finish(unfinished: Path, output: Path):
    """Gives the output its name, as Parquet if the name says so."""
    if output.suffix == ".parquet":
        with (
            whole_file(output) as partial,
            open(unfinished, encoding="utf-8") as file,
            pq.ParquetWriter(partial, SCHEMA) as writer,
        ):
            while rows := [json.loads(line) for line in islice(file, ROWS_AT_ONCE)]:
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        unfinished.unlink()
    else:
        move_whole(unfinished, output)
    _settings_file(unfinished).unlink()
