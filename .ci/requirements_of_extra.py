"""Prints the requirements of an extra of pyproject.toml, a line each, for `pip install -r`.

`pip install '.[docs]'` would install torch and all other requirements of the project, which the pages do not need.

    python .ci/requirements_of_extra.py docs
"""

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:  # pip's own
    from pip._vendor import tomli as tomllib

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def main(extra: str):
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    if extra not in extras:
        sys.exit(f"pyproject.toml has no extra '{extra}': give one of {', '.join(sorted(extras))}.")
    print("\n".join(extras[extra]))


if __name__ == "__main__":
    main(*sys.argv[1:])
