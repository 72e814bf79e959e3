"""Names with escape codes reach no terminal."""

import subprocess
import sys

import pytest
from helpers.commands import run_command
from helpers.places import PROJECT

from avt_distill.runs.terminal import shown_as_text

CODES = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e"


@pytest.mark.parametrize(
    "command", ["anticipate", "evaluate", "compare_runs", "extract_features", "convert_checkpoint"]
)
def test_names_of_files_do_not_control_the_terminal(command, tmp_path):
    name = tmp_path / f"a{CODES}.x"
    arguments = {
        "anticipate": [name, "--model", name],
        "evaluate": [name],
        "compare_runs": ["--baseline", name, "--candidate", name],
        "extract_features": [name, name, "--output", tmp_path / "out"],
        "convert_checkpoint": [name, tmp_path / "out"],
    }
    result = run_command(command, *arguments[command])
    assert result.returncode
    assert "\\u001b[2J" in result.stderr or "\\x1b[2J" in result.stderr  # as Python escapes names in file errors
    assert not set(CODES[:1] + "\x07\x9b\u202e") & set(result.stdout + result.stderr)


def test_prints_and_progress_bars(capsys):
    with shown_as_text():
        print(f"video {CODES}")
        sys.stderr.write("\r 50 %|##  |")
        sys.stderr.write("\n\x1b[A")
        assert sys.stdout.isatty() is False
    printed = capsys.readouterr()
    assert printed.out == "video \\u001b[2J\\u001b]0;title\\u0007\\u009b31m\\u202e\n"
    assert printed.err == "\r 50 %|##  |\n\x1b[A"


@pytest.mark.parametrize("closed", [[1], [2], [1, 2]])
def test_closed_streams_do_not_end_a_command(closed):
    without = " ".join(f"{stream}>&-" for stream in closed)
    command = ["sh", "-c", f'"$0" -m avt_distill --version {without}', sys.executable]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert bool(result.stdout) == (1 not in closed)


def test_an_error_reaches_standard_error_when_standard_output_is_closed(tmp_path):
    command = ["sh", "-c", '"$0" -m avt_distill evaluate "$1" >&-', sys.executable, str(tmp_path / "missing.parquet")]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "missing.parquet" in result.stderr
    assert "Traceback" not in result.stderr
