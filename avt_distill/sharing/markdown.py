"""Text of others as Markdown: names of actions, videos and settings show what they are, and do nothing else."""

import html

from ..runs.names import printable

# What begins or ends something in Markdown, beside what HTML escapes. Entities are shown as the character.
_ENTITIES = str.maketrans({character: f"&#{ord(character)};" for character in "|`*~#$\\"})


class Markdown(str):
    """Text that is Markdown already, and stays as it is."""


def escaped(value: object) -> Markdown:
    """Returns a value as text of one line for a card: a pipe ends no cell, a line break no line, a tag is shown."""
    if isinstance(value, Markdown):
        return value
    text = html.escape(printable(" ".join(str(value).split())), quote=False)
    return Markdown(text.translate(_ENTITIES).replace("](", "&#93;("))


def table(header: list, rows: list[list]) -> Markdown:
    """Returns a table; cells are escaped unless they are `Markdown`."""
    lines = [header, ["---"] * len(header), *rows]
    return Markdown("\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines))
