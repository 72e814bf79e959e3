"""Hooks, workflows, issue forms, citation and changelog agree with the code."""

import re

import pytest
import yaml
from helpers.places import PROJECT
from helpers.toml import tomllib

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (PROJECT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")


def parsed(*parts: str):
    return yaml.safe_load(PROJECT.joinpath(*parts).read_text(encoding="utf-8"))


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def pinned() -> dict[str, str]:
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def project() -> dict:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_only_calls_make_targets_that_exist(path):
    workflow = parsed(".github", "workflows", path.name)
    assert set(workflow) >= {"name", True, "jobs"}  # YAML reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    assert commands
    for command in commands:
        program, target, *variables = command.split()
        assert program == "make"
        assert re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE), target
        for variable in variables:
            assert re.search(rf"^{variable.split('=')[0]} \?=", MAKEFILE, re.MULTILINE), variable


def test_workflows_cover_tests_pages_and_the_oldest_versions():
    on = {path.stem: parsed(".github", "workflows", path.name)[True] for path in WORKFLOWS}
    assert set(on) == {"test", "docs", "oldest"}
    assert all({"push", "pull_request"} <= set(on[name]) for name in ("test", "docs"))
    assert "schedule" in on["oldest"]


@pytest.mark.parametrize(("name", "constraints"), [("test", "constraints"), ("oldest", "constraints-oldest")])
def test_a_workflow_runs_the_python_of_its_versions(name, constraints):
    (version,) = (
        s["with"]["python-version"]
        for s in steps(parsed(".github", "workflows", f"{name}.yml"))
        if "setup-python" in s.get("uses", "")
    )
    first_lines = (PROJECT / f"{constraints}.txt").read_text(encoding="utf-8").splitlines()[:2]
    stated = re.search(r"on Python ([\d.]+)", " ".join(first_lines))
    contributing = re.search(
        r"last run with, on Python ([\d.]+)", (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    )
    assert version == (stated or contributing)[1]


def test_the_weekly_command_is_the_one_that_is_documented():
    (command,) = (step["run"] for step in steps(parsed(".github", "workflows", "oldest.yml")) if "run" in step)
    assert command in (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert command in (PROJECT / "constraints-oldest.txt").read_text(encoding="utf-8")


def test_hooks_are_those_of_make_lint_at_its_versions():
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    assert set(hooks) == {"ruff", "ruff-format", "pyright"}
    for name in ("ruff", "ruff-format"):
        assert hooks[name]["additional_dependencies"] == [f"ruff=={pinned()['ruff']}"]
    script = hooks["pyright"]["entry"].split()[-1]
    assert (PROJECT / script).is_file()
    assert f"python {script}" in MAKEFILE


def test_the_citation_is_of_this_version():
    citation = parsed("CITATION.cff")
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"]
    assert {reference["year"] for reference in citation["references"]} == {2021, 2023}
    assert "arXiv:2210.05991" in str(citation["references"])


def test_the_changelog_has_this_version_first_and_known_sections():
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert next(version for version in versions if version != "Unreleased") == project()["version"]
    sections = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert {"Added", "Changed", "Fixed"} <= set(sections)
    assert set(sections) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_something(path):
    form = parsed(".github", "ISSUE_TEMPLATE", path.name)
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids))
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_there_is_a_form_for_a_bug_a_benchmark_and_a_number():
    assert [path.stem for path in FORMS] == ["benchmark", "bug", "wrong_number"]
