"""Processes of their own, with the project or without it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from helpers.places import PROJECT

# An editable install puts the project on the path through a finder: both are taken off.
WITHOUT_THE_PROJECT = f"""
import importlib.util, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.path = [path for path in sys.path if path not in ("", {str(PROJECT)!r})]
assert importlib.util.find_spec("modeling_avt") is None
"""


def run_python(
    code: str, folder: Path, *, fails: bool = False, python: str | Path = sys.executable, **environment: str
) -> str:
    """Runs code in a process, and with a Hugging Face cache, of its own, and returns what it prints.

    Of code that `fails`, as it then must, what it says of that.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HUB_OFFLINE")}
    result = subprocess.run(
        [python, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**inherited, "HF_HOME": str(folder / "hf_home"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode != 0) == fails, result.stderr[-4000:]
    return result.stderr if fails else result.stdout
