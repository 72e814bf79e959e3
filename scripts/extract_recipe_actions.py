"""Extracts the actions of recipes, (verb, object) pairs in the order of the text, for training text teachers.

    python scripts/extract_recipe_actions.py recipes.jsonl.gz --output actions.jsonl
    python scripts/extract_recipe_actions.py recipe1m/layer1.json --output actions.parquet --num_proc 8

Reads a JSON object a line, `{"id": ..., "title": ..., "instructions": ["...", ...]}`, or a JSON list of them as
Recipe1M's `layer1.json`, whose instructions are `{"text": "..."}`; plain or gzip. Writes a row a recipe, in their
order, as JSONL or, where the output's name ends so, Parquet: `{"id": ..., "title": ..., "actions": [["preheat",
"oven"], ...]}`. Recipes without an action are kept, with an empty list, and counted.

A run that was interrupted continues where it stopped when it is started again: until it is whole, the output lies
beside its name, as `<output>.unfinished`. A JSON list is held in memory, lines are not. What counts as an action:
`avt_distill.recipes.actions`.
"""

import argparse
import gzip
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice, tee
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub.utils import tqdm

from avt_distill.recipes.actions import extract_actions, load_parser

SUFFIXES = (".jsonl", ".parquet")
SCHEMA = pa.schema({"id": pa.string(), "title": pa.string(), "actions": pa.list_(pa.list_(pa.string()))})
ROWS_AT_ONCE = 10_000


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    try:
        if args.output.suffix not in SUFFIXES:
            raise ValueError(f"--output {args.output}: give a name that ends in {' or '.join(SUFFIXES)}.")
        if args.output.exists():
            raise ValueError(f"{args.output} is there and whole: remove it, or give another --output.")
        unfinished = args.output.with_name(f"{args.output.name}.unfinished")
        started, extracted = time.perf_counter(), extract(args, unfinished)
        seconds = time.perf_counter() - started
        finish(unfinished, args.output)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    report(rows_of(args.output), extracted / seconds)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, help="JSONL or a JSON list, plain or gzip")
    parser.add_argument("--output", type=Path, required=True, help=f"file to write, {' or '.join(SUFFIXES)}")
    parser.add_argument("--parser", help="an installed spaCy model, or its folder (default: a small English one)")
    parser.add_argument("--num_proc", type=int, default=1, help="processes that parse (default: 1)")
    args = parser.parse_args(arguments)
    if args.num_proc < 1:
        parser.error(f"--num_proc {args.num_proc}: give 1 or more")
    return args


def extract(args: argparse.Namespace, unfinished: Path) -> int:
    """Adds the recipes that it lacks to the unfinished output, and returns how many these were."""
    total = sum(1 for _ in read_recipes(args.recipes))  # refuses what cannot be read before hours are spent
    if not total:
        raise ValueError(f"{args.recipes} holds no recipes.")
    parser = load_parser(args.parser)
    model = f"{parser.meta['lang']}_{parser.meta['name']} {parser.meta['version']}"
    keep_settings(unfinished, {"recipes": checksum(args.recipes), "parser": model})
    done = drop_half_line(unfinished)
    recipes, parsed = tee(islice(read_recipes(args.recipes), done, None))  # parsing reads a batch ahead
    actions = extract_actions((recipe["instructions"] for recipe in parsed), parser, num_proc=args.num_proc)
    with open(unfinished, "a", encoding="utf-8", buffering=1) as file:
        for recipe, found in zip(recipes, tqdm(actions, initial=done, total=total, unit="recipe"), strict=True):
            row = {"id": recipe["id"], "title": recipe["title"], "actions": found}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return total - done


def read_recipes(path: Path) -> Iterator[dict]:
    """Yields `id` (`str`), `title` (`str`, may be empty) and `instructions` (`list[str]`) of each recipe of a file.

    Raises:
        ValueError: for a file that is neither form, and for a recipe that lacks its id or its instructions.
    """
    with open(path, "rb") as file:
        opens = gzip.open if file.read(2) == b"\x1f\x8b" else open
    with opens(path, "rt", encoding="utf-8") as file:
        try:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            if first.lstrip().startswith("["):
                numbered = (("recipe", number, row) for number, row in enumerate(json.load(file), start=1))
            else:
                numbered = parse_lines(file, path)
            for kind, number, row in numbered:
                yield checked_recipe(row, f"{path}, {kind} {number}")
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} begins as a JSON list and is none: {error}.") from error
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} cannot be read to its end: {error}.") from error


def parse_lines(lines: Iterator[str], path: Path) -> Iterator[tuple[str, int, object]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield "line", number, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number} is no JSON: {error}.") from error


def checked_recipe(row: object, place: str) -> dict:
    if not isinstance(row, dict):
        raise ValueError(f"{place} is no JSON object: give one with id, title and instructions.")
    if not isinstance(row.get("id"), str | int):
        raise ValueError(f"{place} has no id: give each recipe one.")
    instructions = row.get("instructions")
    if not isinstance(instructions, list):
        raise ValueError(f"{place} has no instructions: give a list of texts.")
    texts = [text.get("text") if isinstance(text, dict) else text for text in instructions]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f'{place}: an instruction is neither text nor {{"text": "..."}}.')
    return {"id": str(row["id"]), "title": str(row.get("title") or ""), "instructions": texts}


def checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def keep_settings(unfinished: Path, settings: dict[str, str]):
    """Records what an unfinished output is made from, and refuses to continue one that is made from something else."""
    path = settings_file(unfinished)
    if unfinished.exists() and path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        for name, value in settings.items():
            if earlier.get(name) != value:
                raise ValueError(
                    f"{unfinished} was begun with other {name} ({earlier.get(name)}, not {value}): remove it, or give "
                    "another --output, otherwise one file would hold two kinds of rows."
                )
    elif unfinished.exists():
        raise ValueError(f"{unfinished} has no {path.name} that tells how it was begun: remove it.")
    path.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def settings_file(unfinished: Path) -> Path:
    return unfinished.with_name(f"{unfinished.name}.json")


def drop_half_line(unfinished: Path) -> int:
    """Returns the number of whole lines of the unfinished output, after cutting off what follows them."""
    with open(unfinished, "a+b") as file:
        file.seek(0)
        whole = [len(line) for line in file if line.endswith(b"\n")]
        file.truncate(sum(whole))
    return len(whole)


def finish(unfinished: Path, output: Path):
    """Gives the output its name, as Parquet where the name says so."""
    if output.suffix == ".parquet":
        partial = output.with_name(f"{output.name}.partial")
        with open(unfinished, encoding="utf-8") as file, pq.ParquetWriter(partial, SCHEMA) as writer:
            while rows := [json.loads(line) for line in islice(file, ROWS_AT_ONCE)]:
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        partial.replace(output)
        unfinished.unlink()
    else:
        unfinished.replace(output)
    settings_file(unfinished).unlink()


def rows_of(output: Path) -> Iterator[dict]:
    if output.suffix == ".parquet":
        for batch in pq.ParquetFile(output).iter_batches(ROWS_AT_ONCE):
            yield from batch.to_pylist()
    else:
        with open(output, encoding="utf-8") as file:
            yield from map(json.loads, file)


def report(rows: Iterator[dict], rate: float):
    """Prints how many recipes and actions there are, and the most frequent ones."""
    recipes, without, pairs = 0, 0, Counter()
    for row in rows:
        recipes += 1
        without += not row["actions"]
        pairs.update(map(tuple, row["actions"]))
    verbs = Counter()
    for (verb, _), count in pairs.items():
        verbs[verb] += count
    print(f"recipes: {recipes}, of which without an action: {without}; {rate:.0f} recipes/s")
    print(f"actions: {pairs.total()}, {pairs.total() / recipes:.1f} a recipe; {len(pairs)} different")
    print("verbs:   " + ", ".join(f"{verb} {count}" for verb, count in verbs.most_common(10)))
    print("actions: " + ", ".join(f"{verb} {name} {count}" for (verb, name), count in pairs.most_common(10)))


if __name__ == "__main__":
    main()
