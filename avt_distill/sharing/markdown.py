"""Escaping untrusted text (names of actions, videos and settings) for Markdown."""

import html

from ..runs.names import printable

# Characters with a meaning in Markdown, in addition to those that HTML escapes. Entities are rendered as the character.
_ENTITIES = str.maketrans({character: f"&#{ord(character)};" for character in "|`*~#$\\"})


class Markdown(str):
    """Text that is already Markdown, and is not escaped."""


def escaped(value: object) -> Markdown:
    """Returns a value as one line of escaped text for a card: pipes, line breaks and tags have no effect."""
    if isinstance(value, Markdown):
        return value
    text = html.escape(printable(" ".join(str(value).split())), quote=False)
    return Markdown(text.translate(_ENTITIES).replace("](", "&#93;("))


def table(header: list, rows: list[list]) -> Markdown:
    """Returns a table; cells are escaped unless they are `Markdown`."""
    lines = [header, ["---"] * len(header), *rows]
    return Markdown("\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines))
