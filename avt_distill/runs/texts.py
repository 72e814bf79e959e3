"""Reading text files of users as UTF-8."""

from pathlib import Path


def read_user_text(path: str | Path) -> str:
    """Returns the text of a file, without the byte order mark that spreadsheets and editors may put first.

    Raises:
        ValueError: If the file is not UTF-8 text. The message names it.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8.") from error
