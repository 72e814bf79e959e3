"""The two kinds of recipe files: original instructions, and extracted actions."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet


def read_recipes(path: Path) -> Iterator[dict]:
    """Yields `id` (`str`), `title` (`str`, may be empty) and `instructions` (`list[str]`) of each recipe of a file.

    Raises:
        ValueError: If the file has neither format, or a recipe lacks its id or its instructions.
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
            raise ValueError(f"{path} begins like a JSON list but is not valid: {error}. Correct it.") from error
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} cannot be read completely: {error}. Fetch it again.") from error


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


def read_actions(path: str | Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yields the id and the (verb, object) pairs of each recipe of a file.

    Args:
        path (`str` or `Path`): `.jsonl`, `.jsonl.gz` or `.parquet` with one recipe a row, `{"id": "pancakes",
            "actions": [["whisk", "egg"], ...]}`; `title` and further fields are not read.

    Raises:
        ValueError: If the file cannot be read, is empty, or a row is not a recipe.
    """
    path, number = Path(path), 0
    try:
        for number, row in enumerate(_action_rows(path), start=1):
            yield _recipe(row, f"{path}, row {number}")
    except (OSError, EOFError, UnicodeDecodeError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"Cannot read recipes from {path} ({error}): give a .jsonl, .jsonl.gz or .parquet.") from error
    if not number:
        raise ValueError(f"{path} holds no recipes.")


def _action_rows(path: Path) -> Iterator[dict]:
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches():
                yield from batch.to_pylist()
        return
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number} is not JSON ({error}).") from error


def _recipe(row: dict, place: str) -> tuple[str, list[tuple[str, str]]]:
    if not isinstance(row, dict) or row.get("id") is None or row.get("actions") is None:
        raise ValueError(
            f"{place} lacks 'id' or 'actions': extract the actions of recipes with avt-distill extract_recipe_actions "
            "first."
        )
    try:
        return str(row["id"]), [(verb, noun or "") for verb, noun in row["actions"]]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place} has actions that are not [verb, object] pairs.") from error
