"""Runs pyright: no errors in the strict places, and no more elsewhere than CEILING, which only falls.

`make lint` runs it after ruff. It takes about 45 s of processor time, most of it to read torch, transformers and
datasets: the strict places alone would still take half of that, so everything is checked each time. Pyright needs
Node.js, which `pyright[nodejs]` installs from the package index.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
# What a checkpoint carries, and what computes numbers and settings.
STRICT = (
    "modeling_avt",
    "avt_distill/losses.py",
    "avt_distill/metrics",
    "avt_distill/evaluation",
    "avt_distill/runs",
)
CEILING = 172


def errors() -> list[tuple[Path, str]]:
    """Returns the file of each error, and the error in one line."""
    # `--pythonpath`: the packages of this interpreter, wherever its environment is.
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, encoding="utf-8")
    if not result.stdout.startswith("{"):
        sys.exit(f"pyright did not run:\n{result.stdout}{result.stderr}")
    found = []
    for item in json.loads(result.stdout)["generalDiagnostics"]:
        if item["severity"] == "error":
            file, line = Path(item["file"]).relative_to(PROJECT), item["range"]["start"]["line"] + 1
            found.append((file, f"{file}:{line}: {item['message'].splitlines()[0]} ({item.get('rule')})"))
    return found


def main():
    found = errors()
    strict = [text for file, text in found if any(file.is_relative_to(place) for place in STRICT)]
    if strict:
        sys.exit("\n".join([*strict, f"pyright: {len(strict)} errors in {', '.join(STRICT)}, which must have none."]))
    if len(found) != CEILING:
        folders = Counter(file.parent.as_posix() for file, _ in found)
        where = ", ".join(f"{count} in {folder}" for folder, count in sorted(folders.items()))
        what = "fix those that are new" if len(found) > CEILING else f"lower CEILING to {len(found)}"
        sys.exit(f"pyright: {len(found)} errors, where {Path(__file__).name} expects {CEILING}: {what}.\n{where}")
    print(f"pyright: no errors in the strict places, {CEILING} elsewhere as before.")


if __name__ == "__main__":
    main()
