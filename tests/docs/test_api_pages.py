"""The API pages: every public name is on one, and every docstring has the form that can be rendered."""

import importlib.util
import inspect
import re
import sys
import types

import pytest
from helpers.places import PROJECT

import avt_distill
import modeling_avt

PAGES = sorted((PROJECT / "docs" / "api").glob("*.md"))
SHOWN = [name for page in PAGES for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)]
PUBLIC = [f"{package.__name__}.{name}" for package in (avt_distill, modeling_avt) for name in package.__all__]


@pytest.fixture(scope="module")
def extension():
    """The extension of griffe, which is not installed here: only a parent class of it is needed."""
    path = PROJECT / "docs" / "hugging_face_docstrings.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "griffe", types.SimpleNamespace(Extension=object, Module=object, Object=object))
        spec.loader.exec_module(module)
    return module


def value_of(name: str):
    package, *parts = name.split(".")
    value = {"avt_distill": avt_distill, "modeling_avt": modeling_avt}[package]
    for part in parts:
        value = getattr(value, part)
    return value


def documented(value) -> dict[str, str]:
    """Returns the docstring of a function, or those of a class and its own public methods."""
    found = {value.__name__: inspect.getdoc(value) or ""}
    if inspect.isclass(value):
        for name, member in vars(value).items():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if (not name.startswith("_") or name == "__call__") and inspect.isfunction(function) and function.__doc__:
                found[f"{value.__name__}.{name}"] = inspect.cleandoc(function.__doc__)
    return found


def test_every_public_name_is_on_one_page():
    assert len(SHOWN) == len(set(SHOWN))
    assert set(PUBLIC) <= set(SHOWN)
    assert all(name.startswith("avt_distill.metrics.") for name in set(SHOWN) - set(PUBLIC))


@pytest.mark.parametrize("name", SHOWN)
def test_each_entry_of_a_docstring_is_rendered_as_one(name, extension):
    for where, text in documented(value_of(name)).items():
        assert text, where
        markdown = extension.as_markdown(text)
        assert not re.search(r"^(Args|Attributes|Returns|Raises):$", markdown, re.MULTILINE), where
        for kind, title in (("Args", "Parameters"), ("Attributes", "Attributes"), ("Raises", "Raises")):
            if f"\n{kind}:\n" not in text:
                continue
            body = markdown.split(f"**{title}**\n\n")[1].split("\n\n")[0]
            entries = [line for line in body.splitlines() if line.startswith("- ")]
            assert entries, where
            assert [entry for entry in entries if not entry.startswith("- **`")] == [], where


def test_types_with_colons_and_several_names_are_kept(extension):
    text = 'Text.\n\nArgs:\n    size (`int` or `{"a": int}`, *optional*): Short\n        side.\n    a, b (`str`): Two.'
    markdown = extension.as_markdown(text)
    assert (
        '- **`size`** (`int` or `{"a": int}`, *optional*): Short\n    side.\n- **`a`**, **`b`** (`str`): Two.'
        in markdown
    )


def test_what_is_returned_and_raised_is_kept(extension):
    text = "Text.\n\nReturns:\n    `dict`: one a row.\n\nRaises:\n    ValueError: for `a: b`."
    markdown = extension.as_markdown(text)
    assert "**Returns**\n\n`dict`: one a row." in markdown
    assert "**Raises**\n\n- **`ValueError`**: for `a: b`." in markdown
