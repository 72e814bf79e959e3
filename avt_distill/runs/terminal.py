"""Safe terminal output: untrusted names are printed without control characters, in any encoding."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .names import printable

_OF_BARS = re.compile(r"[\r\n]*(?:\x1b\[A)*")  # the beginning of a progress bar, which returns to its line


class _Shown:
    """A stream wrapper that escapes control characters, except for those at the beginning of progress bars.

    Characters outside the stream's encoding are escaped, too: on Windows, pipes and files support few.
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
    """Returns text in which characters that a stream cannot encode are escaped, such as `\\xe9`."""
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
    """Escapes control characters in everything that is printed, logged or raised within the block.

    Streams that the process was started without, as by `>&-` in a shell, are `None`: the block gets null devices.
    """
    streams = sys.stdout, sys.stderr
    with ExitStack() as opened:
        null = opened.enter_context(open(os.devnull, "w", encoding="utf-8", newline="")) if None in streams else None
        sys.stdout, sys.stderr = (_Shown(null if stream is None else stream) for stream in streams)
        try:
            yield
        except SystemExit as end:
            if isinstance(end.code, str):
                raise SystemExit(printable(end.code)) from end
            raise
        finally:
            sys.stdout, sys.stderr = streams
