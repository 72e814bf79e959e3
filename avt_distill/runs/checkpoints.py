"""Loading checkpoints and tokenizers in commands, refusing incomplete ones; see `modeling_avt.loading_avt` for
weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from modeling_avt.loading_avt import check_loaded, load_whole, load_with_report
from modeling_avt.numbers_avt import check_encoded, check_features, check_scores

__all__ = [
    "check_encoded",
    "check_features",
    "check_loaded",
    "check_scores",
    "load_tokenizer_of",
    "load_whole",
    "load_with_report",
]

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json", "vocab.json")


def load_tokenizer_of(
    name_or_path: str | Path, load: Callable[..., PreTrainedTokenizerBase], **kwargs
) -> PreTrainedTokenizerBase:
    """Loads a checkpoint's tokenizer, and raises if its vocabulary is missing.

    If files are missing, transformers returns a tokenizer with only special tokens, so all texts would be equal.

    Args:
        name_or_path (`str` or `Path`): A model on the Hub, or a folder.
        load (`Callable`): `from_pretrained` of a tokenizer or auto class.
        kwargs: Passed to `load`.

    Raises:
        ValueError: If files are missing or damaged. The message names them.
    """
    try:
        tokenizer: Any = load(name_or_path, **kwargs)  # a class of its own for each kind of model
    except Exception as error:  # tokenizers raises bare Exceptions for files that it cannot parse
        if damaged := _damaged_json(name_or_path):
            raise ValueError(
                f"The tokenizer of '{name_or_path}' cannot be read: {damaged} is damaged, or was cut off while being "
                "written, copied or downloaded. Fetch it again."
            ) from error
        if _file(name_or_path, TOKENIZER_FILE) is not None:
            raise
        raise ValueError(_without_files(name_or_path, [TOKENIZER_FILE])) from error
    if _file(name_or_path, TOKENIZER_FILE) is None:
        vocabulary = sorted(set(tokenizer.vocab_files_names.values()) - {TOKENIZER_FILE})
        absent = [name for name in vocabulary if _file(name_or_path, name) is None]
        words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens) - set(tokenizer.get_added_vocab())
        if absent and (len(absent) < len(vocabulary) or not words):
            raise ValueError(_without_files(name_or_path, [TOKENIZER_FILE, *absent]))
    return tokenizer


def _without_files(name_or_path: str | Path, files: list[str]) -> str:
    absent = files[0] if len(files) == 1 else f"{files[0]}, nor {' and '.join(files[1:])}"
    return (
        f"'{name_or_path}' has no tokenizer: there is no {absent}. Without them every text would read the same: copy "
        "the tokenizer's files to the model's, or save them there with tokenizer.save_pretrained."
    )


def _file(name_or_path: str | Path, name: str) -> str | None:
    """Returns the path of a checkpoint's file, or `None` if it does not exist."""
    return cached_file(name_or_path, name, _raise_exceptions_for_missing_entries=False)


def _damaged_json(name_or_path: str | Path) -> str | None:
    """Returns the first of a tokenizer's files that is no JSON, if there is one."""
    for name in TOKENIZER_FILES:
        path = _file(name_or_path, name)
        try:
            if path is not None:
                json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError:  # not JSON, or not text
            return name
    return None
