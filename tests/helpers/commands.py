"""Runs commands as a user types them, but in this process."""

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

from avt_distill.__main__ import main


@dataclass
class Result:
    """The exit status of a command and its output."""

    returncode: int
    stdout: str
    stderr: str


def avt_distill(command: str, *arguments):
    """Runs a command; errors raise `SystemExit`."""
    main([command, *map(str, arguments)])


def run_command(command: str, *arguments, folder: Path | None = None) -> Result:
    """Returns the output and exit status of a command as in a shell, run in `folder`."""
    out, err, status, here = io.StringIO(), io.StringIO(), 0, os.getcwd()
    os.chdir(folder or here)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            avt_distill(command, *arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        err.write(f"{end.code}\n" if isinstance(end.code, str) else "")
    finally:
        os.chdir(here)
    return Result(status, out.getvalue(), err.getvalue())
