"""The notebook for newcomers: its committed form, and that an execution shows the results that its text states."""

import ast
import json
import os
import re
import sys
from pathlib import Path

import pytest
from helpers.places import PROJECT

NOTEBOOK = PROJECT / "notebooks" / "first_steps.ipynb"
LARGEST_KB = 600
NOT_RUN = "skip-execution"  # the tag by which nbclient leaves out a cell
LOCAL = re.compile(r"(?<![\w.~:/])/(?:home|root|tmp|work|Users|mnt|opt|usr|var)/|[A-Za-z]:\\\\")
NOISE = re.compile(r"Warning|warning:|Traceback|\d+%\|")  # output of libraries and progress bars


def cells(kind: str, path: Path = NOTEBOOK) -> list[dict]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def texts(cell: dict) -> list[str]:
    """Returns the text outputs of a cell."""
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell["outputs"]]
    html = [output.get("data", {}).get("text/html", "") for output in cell["outputs"]]
    return ["".join(text) for text in (*shown, *html)]


def test_the_committed_notebook_was_executed_from_the_top():
    *run, last = cells("code")
    assert [cell["execution_count"] for cell in run] == list(range(1, len(run) + 1))
    assert "push_to_hub" in source(last)
    assert (last["execution_count"], last["outputs"]) == (None, [])
    assert NOT_RUN in last["metadata"]["tags"]
    assert [cell["outputs"] for cell in cells("code") if "output_type" in str(cell) and cell["outputs"] == []] == []


def test_the_committed_notebook_has_small_clean_outputs():
    assert NOTEBOOK.stat().st_size < LARGEST_KB * 1000
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert LOCAL.search(text) is None, LOCAL.search(text)
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert all(output["name"] == "stdout" for output in outputs if output["output_type"] == "stream")
    assert not [text for cell in cells("code") for text in texts(cell) if NOISE.search(text)]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2


def test_cells_are_short_and_parse():
    for cell in cells("code"):
        lines = source(cell).splitlines()
        assert len(lines) <= 20
        assert max(map(len, lines)) <= 120
        ast.parse("\n".join(line for line in source(cell).replace("\\\n", "").splitlines() if line[:1] != "!"))


def test_the_committed_notebook_is_valid():
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_links_lead_to_files():
    links = [link for cell in cells("markdown") for link in re.findall(r"\]\((?!http)([^)#]+)", source(cell))]
    assert links
    assert all((NOTEBOOK.parent / link).exists() for link in links)


def executed(folder: Path) -> Path:
    """Executes the notebook in a folder with a kernel of its own; returns the executed one."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        notebook,
        timeout=3600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    nbformat.write(notebook, folder / "executed.ipynb")
    return folder / "executed.ipynb"


@pytest.mark.slow
def test_an_execution_shows_what_the_text_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    path = executed(tmp_path)
    *run, last = cells("code", path)
    assert last["execution_count"] is None
    assert len(run) == sum(cell["execution_count"] is not None for cell in run)
    shown = "\n".join(text for cell in run for text in texts(cell))
    students = tmp_path / "first_steps_run" / "students"

    # The teacher is better than the students, which are better with it than without.
    teacher = float(re.search(r"given the true past actions: ([\d.]+)%", shown)[1])
    top1 = json.loads((students / "comparison.json").read_text(encoding="utf-8"))["rows"][0]
    assert top1["measure"] == "action top-1 accuracy"
    assert teacher > top1["candidate"] > top1["baseline"]
    for number in (
        f"{top1['baseline']:.1f} %",
        f"{top1['candidate']:.1f} %",
        f"[{top1['low']:+.1f}, {top1['high']:+.1f}]",
    ):
        assert number in shown

    # Reading helps much more, with an interval far from 0.
    reading = json.loads((students / "reader_comparison.json").read_text(encoding="utf-8"))["reading"]
    assert reading["difference"] > 2 * top1["difference"]
    assert reading["over_rows"]["low"] > 4  # the gain on 50 Salads
    assert f"difference {reading['difference']:+.1f} points" in shown

    # A stream answers every 2 seconds.
    moments = [int(moment) for moment in re.findall(r"^ *(\d+) s: ", shown, re.MULTILINE)]
    assert moments == list(range(0, 2 * len(moments), 2))
    assert len(moments) > 10
