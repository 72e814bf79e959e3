"""Reading text files of users as UTF-8."""

import json
from pathlib import Path
from typing import Any


def read_user_text(path: str | Path) -> str:
    """Returns the text of a file, without the byte order mark that spreadsheets and editors may put first.

    Raises:
        ValueError: If the file is not UTF-8 text. The message names it.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8.") from error


def read_user_json(path: str | Path) -> Any:
    """Returns the content of a JSON file that a user names; for files of commands use `runs.folder.read_json`.

    Raises:
        ValueError: If the file is not JSON in UTF-8. The message names it.
    """
    try:
        return json.loads(read_user_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): correct it, or give another file.") from error
