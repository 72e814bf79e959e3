"""Turns docstrings in the form of Hugging Face into Markdown for the API pages: an extension of griffe.

Griffe's Google parser takes all of "(`int`, *optional*, defaults to 5)" for a type, and breaks at colons in types and
at several names before one type. As Markdown the form needs no parser: each entry becomes an item of a list.
"""

import re

import griffe

TITLES = {
    "Args": "Parameters",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
}
HEADER = re.compile(rf"^({'|'.join(TITLES)}):$")
# "name (type): text", "name, other (type): text" or "name: text"; a type ends at a parenthesis and a colon.
ENTRY = re.compile(r"^(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \((?P<type>.+?)\))?:(?P<text>\s.*|)$", re.DOTALL)
ERROR = re.compile(r"^(?P<names>\w+(?:, \w+)*):(?P<text>\s.*)$", re.DOTALL)
INDENT = " " * 4


class HuggingFaceDocstrings(griffe.Extension):
    """Rewrites the docstrings of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_):
        self._visit(pkg)

    def _visit(self, item: griffe.Object):
        if item.docstring:
            item.docstring.value = as_markdown(item.docstring.value)
        for member in item.members.values():
            if not member.is_alias:
                self._visit(member)


def as_markdown(text: str) -> str:
    """Returns a docstring, without its indentation, whose sections are lists of Markdown."""
    written: list[str] = []
    lines = text.splitlines()
    while lines:
        line = lines.pop(0)
        if not (header := HEADER.match(line)):
            written.append(line)
            continue
        body = []
        while lines and (lines[0].startswith(INDENT) or not lines[0].strip()):
            body.append(lines.pop(0).removeprefix(INDENT))
        written += ["", f"**{TITLES[header[1]]}**", "", *section(header[1], body), ""]
    return "\n".join(written)


def section(kind: str, body: list[str]) -> list[str]:
    """Returns the lines of a section in Markdown; those that are not entries stay as they are."""
    pattern = {"Args": ENTRY, "Attributes": ENTRY, "Raises": ERROR}.get(kind)
    if pattern is None:
        return body
    entries: list[str] = []
    for line in body:
        if line.strip() and not line.startswith(" "):
            entries.append(line)
        elif entries:
            entries[-1] += f"\n{line}"
    return [item(match) if (match := pattern.match(entry)) else f"- {entry}" for entry in entries]


def item(match: re.Match) -> str:
    found = match.groupdict()
    names = ", ".join(f"**`{name}`**" for name in found["names"].split(", "))
    kind = f" ({found['type']})" if found.get("type") else ""
    return f"- {names}{kind}:{found['text']}"
