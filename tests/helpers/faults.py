"""Faults at every file operation: what a full disk or a kill leaves, and what the same command makes of it then."""

import builtins
import errno
import io
import json
import os
import shutil
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from helpers.commands import run_command

KILLED = 9  # the exit status of a process that the injector ends
CALLS = ("open", "os.rename", "os.remove", "os.mkdir")  # audit events


@dataclass
class Faults:
    """Counts the file operations below a folder, and lets the n-th fail.

    Operations are: opening to write, each write before and after its first half, fsync, rename, remove and mkdir.

    Args:
        folder (`Path`): What is below it counts.
        fail_at (`int`, *optional*): The operation that fails, from 1 on.
        kill (`bool`, *optional*, defaults to `False`): End the process there, in place of an `OSError` (no space).
    """

    folder: Path
    fail_at: int | None = None
    kill: bool = False
    operations: list[str] = field(default_factory=list)
    is_active: bool = False

    def __enter__(self) -> "Faults":
        sys.addaudithook(self._audit)
        self._saved = (builtins.open, io.open, os.fsync)
        builtins.open = io.open = self._open
        os.fsync = self._fsync
        self.is_active = True
        return self

    def __exit__(self, *_):
        self.is_active = False  # an audit hook stays
        builtins.open, io.open, os.fsync = self._saved

    def operation(self, name: str, path: object):
        """Counts an operation, which fails if it is its turn."""
        self.operations.append(f"{name} {path}")
        if len(self.operations) == self.fail_at:
            if self.kill:
                os._exit(KILLED)
            named = () if name.startswith(("fsync", "write")) else (str(path),)  # as the system's own errors do
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)

    def is_below(self, path: object) -> bool:
        try:
            return Path(os.fsdecode(path)).absolute().is_relative_to(self.folder)
        except TypeError:  # a descriptor
            return False

    def _audit(self, event: str, arguments: tuple):
        if not self.is_active or event not in CALLS or not self.is_below(arguments[0]):
            return
        if event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.operation(event, arguments[0])

    def _open(self, file, *arguments, **options):
        opened = self._saved[0](file, *arguments, **options)
        return Written(opened, self) if self.is_active and opened.writable() and self.is_below(file) else opened

    def _fsync(self, descriptor: int):
        self.operation("fsync", descriptor)
        self._saved[2](descriptor)


class Written:
    """A file whose writes may fail before or after their first half."""

    def __init__(self, file, faults: Faults):
        self._file, self._faults = file, faults

    def write(self, content):
        half = len(content) // 2
        self._faults.operation("write", self._file.name)
        self._file.write(content[:half])
        self._file.flush()
        self._faults.operation("write the second half of", self._file.name)
        return half + self._file.write(content[half:])

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def __iter__(self):
        return iter(self._file)


@dataclass
class Outcomes:
    """How commands ended when they were run again after a fault; `other` lists what must not happen."""

    equal: int = 0
    clear_error: int = 0
    other: list[str] = field(default_factory=list)


def inject(command: list, folder: Path, *, every: int = 1, makes: str = "") -> Outcomes:
    """Returns the outcomes of faults at every file operation of a command, and of the same command after them.

    Call it where forks are safe: in a process without threads that has imported what the command needs.

    Args:
        command (`list`): Its name and options.
        folder (`Path`): Where it writes; emptied before each fault.
        every (`int`, *optional*, defaults to 1): Of the operations, each n-th.
        makes (`str`, *optional*): Code that prepares the folder.
    """
    outcomes, counted = Outcomes(), _anew(command, folder, makes, Faults(folder))
    assert counted["returncode"] == 0, counted["stderr"]
    expected = contents(folder)
    for kill in (False, True):
        for number in range(1, len(counted["operations"]) + 1, every):
            failed = _anew(command, folder, makes, Faults(folder, number, kill))
            fault = f"{'kill' if kill else 'full disk'} at {number}, {counted['operations'][number - 1]}"
            problem = None if kill or not failed["returncode"] else problem_of(failed["stderr"])
            again = _forked(command, Faults(folder))
            if again["returncode"]:
                problem = problem or problem_of(again["stderr"])
            elif contents(folder) != expected:
                problem = problem or f"another result: {different(contents(folder), expected)}"
            if problem:
                outcomes.other.append(f"{fault}: {problem}")
            elif again["returncode"]:
                outcomes.clear_error += 1
            else:
                outcomes.equal += 1
    return outcomes


def _anew(command: list, folder: Path, makes: str, faults: Faults) -> dict:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    exec(makes, {"folder": folder})
    return _forked(command, faults)


def _forked(command: list, faults: Faults) -> dict:
    """Returns the exit status, the error output and the file operations of a command in a process of its own."""
    report = faults.folder.with_name("report.json")
    report.unlink(missing_ok=True)
    if (pid := os.fork()) == 0:
        try:
            with faults:
                result = run_command(*command)
            found = {"returncode": result.returncode, "stderr": result.stderr, "operations": faults.operations}
        except BaseException:
            found = {"returncode": 1, "stderr": traceback.format_exc(), "operations": faults.operations}
        report.write_text(json.dumps(found))
        os._exit(0)
    os.waitpid(pid, 0)
    return json.loads(report.read_text()) if report.exists() else {"returncode": KILLED}


def problem_of(stderr: str) -> str | None:
    """Returns what keeps a failed command's message from being one clear sentence that names a file."""
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    if len(lines) != 1:
        return f"no error in one line: {stderr[-700:]}"
    return None if "/" in lines[0] else f"names no file: {lines[0]}"


def contents(folder: Path) -> dict:
    """Returns what is in a folder: JSON without times, other files as bytes; no checkpoints or pickled arguments."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.endswith(".bin") and "checkpoint-" not in name:
            found[name] = without_times(json.loads(path.read_bytes())) if path.suffix == ".json" else path.read_bytes()
    return found


def without_times(content):
    if isinstance(content, list):
        return [without_times(item) for item in content]
    if isinstance(content, dict):
        endings = ("_s", "seconds", "second", "runtime", "continued_from_step")
        return {key: without_times(value) for key, value in content.items() if not key.endswith(endings)}
    return content


def different(found: dict, expected: dict) -> list[str]:
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
