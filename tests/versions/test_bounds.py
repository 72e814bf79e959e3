"""Lower bounds are the releases that are tested: exactly those of `constraints-oldest.txt`."""

import re

from helpers.places import PROJECT
from helpers.toml import tomllib
from packaging.requirements import Requirement
from packaging.version import Version

REQUIREMENTS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pinned(name: str) -> dict[str, Version]:
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {package: Version(release) for package, release in pairs}


def lower_bounds(requirements: list[str]) -> dict[str, Version]:
    parsed = map(Requirement, requirements)
    return {
        requirement.name: Version(bound.version)
        for requirement in parsed
        for bound in requirement.specifier
        if bound.operator == ">="
    }


def test_lower_bounds_are_the_oldest_releases_tested():
    oldest, bounds = pinned("constraints-oldest.txt"), lower_bounds(REQUIREMENTS["dependencies"])
    assert set(bounds) <= set(oldest)
    different = {name: str(bound) for name, bound in bounds.items() if oldest[name] != bound}
    assert different == {}
    for extra in ("lora", "plots", "recipes", "rulstm"):
        for name, bound in lower_bounds(REQUIREMENTS["optional-dependencies"][extra]).items():
            assert oldest[name] == bound, name


def test_the_newest_releases_tested_are_allowed():
    newest = pinned("constraints.txt")
    for requirement in map(Requirement, REQUIREMENTS["dependencies"]):
        if requirement.name in newest:
            assert requirement.specifier.contains(newest[requirement.name]), requirement


def test_the_oldest_python_is_the_one_tested():
    (python,) = re.findall(r"on Python ([\d.]+)", (PROJECT / "constraints-oldest.txt").read_text(encoding="utf-8"))
    assert REQUIREMENTS["requires-python"] == f">={python}"
