"""What commands print: names of files and actions are shown on a terminal, whatever its encoding, and not obeyed."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .names import printable

_OF_BARS = re.compile(r"[\r\n]*(?:\x1b\[A)*")  # how a progress bar begins: back to its line


class _Shown:
    """A stream that writes out the control characters of what it is given, but for a progress bar's own.

    Characters that the stream's encoding lacks are written out, too: on Windows, that of a pipe or a file has few.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        own = _OF_BARS.match(text)
        end = own.end() if own is not None else 0
        self._stream.write(_encodable(text[:end] + printable(text[end:].replace("\r\n", "\n")), self._stream))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _encodable(text: str, stream: Any) -> str:
    """Returns text with the characters that a stream cannot encode written out, such as `\\xe9`."""
    encoding = getattr(stream, "encoding", None)
    if encoding is None:  # in memory
        return text
    try:
        text.encode(encoding, stream.errors or "strict")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


@contextmanager
def shown_as_text() -> Iterator[None]:
    """Writes out control characters in what is printed, logged or shown as an error within the block."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Shown, streams)
    try:
        yield
    except SystemExit as end:
        if isinstance(end.code, str):
            raise SystemExit(printable(end.code)) from end
        raise
    finally:
        sys.stdout, sys.stderr = streams
