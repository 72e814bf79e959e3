"""The files of a folder to upload to the Hub, by an explicit list. No other files are uploaded."""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files

from ..runs.folder import read_json, read_record
from ..runs.names import without_local_paths
from .metadata import eval_result_files

CONFIG, CARD = "config.json", "README.md"
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
# JSON is uploaded without local paths; see `without_local_paths`.
OF_MODELS = (
    *(CONFIG, "generation_config.json", *WEIGHTS, "model.safetensors.index.json"),
    *("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("chat_template.jinja", CARD, "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE"),
    *("results.json", "training.json", "comparison.json", "reader_comparison.json", "adaptation.json"),
    "scores_*.parquet",
)
OF_SPACES = (
    *("*.py", CARD, "LICENSE", "requirements.txt", "packages.txt", "*.css", "*.html", "*.js", "*.md"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "*.mp4"),
)
PICTURES = re.compile(r"[\w.-]+\.(?:png|jpe?g|gif|svg|webp)", re.IGNORECASE)


def files_of_model(folder: Path) -> dict[str, Path | bytes]:
    """Returns the files of a student, teacher or language model to upload, by their names in the repository.

    These are configuration, weights, preprocessing or tokenizer, the code in `auto_map`, the card and its pictures,
    results and scores, and `.eval_results/*.yaml`. Optimizer states, `settings.json`, `training_args.bin`, unfinished
    and other hidden files are excluded.
    """
    names = [path.name for path in _visible(folder) if _matches(path.name, OF_MODELS)]
    pictures = PICTURES.findall((folder / CARD).read_text(encoding="utf-8")) if CARD in names else []
    names += [name for name in dict.fromkeys(pictures) if (folder / name).is_file() and name not in names]
    names += [name for name in _code(folder) if name not in names]
    names += [path.relative_to(folder).as_posix() for path in eval_result_files(folder)]
    return {name: _shareable(folder / name) for name in sorted(names)}


def files_of_space(folder: Path) -> dict[str, Path | bytes]:
    """Returns the files of an app to upload: code, requirements, pages and pictures, including subfolders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith((".", "_")) and part != "__init__.py" for part in parts)
        if path.is_file() and not hidden and _matches(path.name, OF_SPACES):
            found["/".join(parts)] = path
    return found


def files_of_checkpoint(folder: Path, place: str) -> dict[str, Path | bytes]:
    """Returns the files of a resumable `Trainer` checkpoint, except for its arguments."""
    leave = ("training_args.bin", "*.tmp", "*.partial")
    names = [path.name for path in _visible(folder) if not _matches(path.name, leave)]
    return {f"{place}/{name}": _shareable(folder / name) for name in sorted(names)}


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _code(folder: Path) -> list[str]:
    """Returns the names of the Python files that a configuration's `auto_map` needs."""
    fields = read_record(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    named = [*fields.get("auto_map", {}).values()]
    named += [pipeline.get("impl") for pipeline in fields.get("custom_pipelines", {}).values()]
    for name in ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            named += read_record(folder / name).get("auto_map", {}).values()
    code: set[str] = set()
    for module in {str(name).split("--")[-1].split(".")[0] for name in named if name}:
        path = folder / f"{module}.py"
        if re.fullmatch(r"\w+", module) and path.is_file():
            code |= {path.name, *(Path(file).name for file in get_relative_import_files(path))}
    return sorted(name for name in code if (folder / name).is_file())


def _shareable(path: Path) -> Path | bytes:
    """Returns a file's path, or for JSON its content without local paths."""
    if path.suffix != ".json":
        return path
    content = read_json(path)
    shared = without_local_paths(content)
    return path if shared == content else (json.dumps(shared, indent=1, ensure_ascii=False) + "\n").encode()
