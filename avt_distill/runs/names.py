"""Handling untrusted names and texts: in paths, on a terminal, and in shared files."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

LONGEST_NAME = 200  # bytes; file systems allow 255, and suffixes need some
# Control characters except for tab and line break, and those that change the direction of writing.
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# Message about a missing name if there is one for which `has_other_spelling` is `True`.
OTHER_SPELLING = (
    "one whose name looks the same, but is written in other Unicode characters (NFC and NFD, which macOS writes): "
    "rename it, so that both are written alike"
)
_UNFIT_FOR_FILES = re.compile(r"[/\\\x00-\x1f\x7f]|^[A-Za-z]:|^\.{0,2}$")
ON_WINDOWS = os.name == "nt"
# On Windows, a colon begins a hidden stream, a trailing dot is dropped, and some names are devices.
_UNFIT_ON_WINDOWS = re.compile(r'[<>:"|?*]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)


def file_name(name: str, what: str = "video") -> str:
    """Checks that a name is safe as a part of a path, and returns it.

    Args:
        name (`str`): Such as a `video_id` of a CSV file or a key of an `.npz` file.
        what (`str`, *optional*, defaults to `"video"`): What it names, for the message.

    Raises:
        ValueError: If the name is empty, `.` or `..`, or holds a slash, backslash, control character, drive letter or
            more than 200 bytes; on Windows also if no file can have it.
    """
    if ON_WINDOWS and _UNFIT_ON_WINDOWS.search(name):
        raise ValueError(
            f"The {what} {printable(repr(name))} cannot be part of a file's name on Windows: rename it, without any of "
            'the characters < > : " | ? *, without a dot or a space at its end, and not as a device such as NUL.'
        )
    if _UNFIT_FOR_FILES.search(name) or len(name.encode(errors="surrogateescape")) > LONGEST_NAME:
        shown = printable(repr(name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "..."))
        raise ValueError(
            f"The {what} {shown} cannot be part of a file's name: rename it, without slashes, backslashes, control "
            f"characters or a drive's letter, in {LONGEST_NAME} bytes at most; otherwise files outside of the folder "
            "would be read or written."
        )
    return name


def has_other_spelling(name: str, known: Iterable[str]) -> bool:
    """Returns whether a name that is not among known ones looks like one of them, in other Unicode characters.

    "é" may be one character, or an "e" and an accent: files that were copied from macOS often have the latter.
    """
    return unicodedata.normalize("NFC", name) in {unicodedata.normalize("NFC", other) for other in known}


def printable(text: str) -> str:
    r"""Returns text with control characters written out, such as `\u001b`, so that a terminal does not obey them.

    Tabs and line breaks stay. JSON stays JSON.
    """
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def without_local_paths(value: Any) -> Any:
    """Returns a JSON value with each absolute path shortened to its last part, since the other parts identify a
    machine."""
    if isinstance(value, dict):
        return type(value)({key: without_local_paths(item) for key, item in value.items()})
    if isinstance(value, list):
        return [without_local_paths(item) for item in value]
    if isinstance(value, str):
        return ", ".join(map(_last_part, value.split(", ")))  # names of an ensemble's members are joined by commas
    return value


def _last_part(text: str) -> str:
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        if path.name and (path.is_absolute() or text.startswith("~/")):
            return path.name
    return text
