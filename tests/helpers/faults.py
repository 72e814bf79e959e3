"""Faults at every file operation: the state after a full disk or a kill, and how rerunning the command handles it."""

import builtins
import errno
import gc
import importlib
import io
import json
import os
import pkgutil
import re
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from helpers.commands import run_command

KILLED = 9  # the exit status of a process that the injector ends
# Audit events of calls that take a path, and the index of the argument with the descriptor of its folder.
CALLS = {"open": None, "os.rename": 2, "os.remove": 1, "os.mkdir": 2, "os.rmdir": 1, "os.truncate": None}
OF_DESCRIPTORS = ("fsync", "write", "pwrite")  # functions of `os`
# Functions that write in native code, invisible to Python, and the index of the argument that names the file.
NATIVE = {
    "torch.save": 1,
    "torch.export.save": 1,
    "safetensors.torch.serialize_file": 1,
    "safetensors.numpy.serialize_file": 1,
    "tokenizers.Tokenizer.save": 1,
    "pyarrow.parquet.core.ParquetWriter.__init__": 1,
    "av.open": 0,
}
OF_CARDS = re.compile(rb"[\d.]+ s\b|(?<=filled by avt-distill, )\w+")  # duration of training, digest of a card


@dataclass
class Faults:
    """Counts the file operations below a folder, and makes the n-th fail.

    Operations are: opening for writing, each write before and after its first half, fsync, rename, truncate, remove,
    mkdir and rmdir, and calls of libraries that write in native code.

    Args:
        folder (`Path`): Operations below it count.
        fail_at (`int`, *optional*): The operation that fails, from 1 on.
        kill (`bool`, *optional*, defaults to `False`): Ends the process instead of raising an `OSError` (no space).
        limit (`int`, *optional*): From that operation on, no file grows beyond this size in bytes, whatever writes it.
            The write that would exceed it stops partway, with an error or the end of the process.
    """

    folder: Path
    fail_at: int | None = None
    kill: bool = False
    limit: int | None = None
    operations: list[str] = field(default_factory=list)
    native: dict[int, Path] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    is_active: bool = False
    current: ClassVar["Faults"]

    def __enter__(self) -> "Faults":
        Faults.current = self
        sys.addaudithook(self._audit)
        self._saved = {"builtins.open": builtins.open, "io.open": io.open}
        builtins.open = io.open = self._open
        for name in OF_DESCRIPTORS:
            self._replace(f"os.{name}", lambda call, name=name: self._of_descriptor(name, call))
        for target, position in NATIVE.items():
            self._replace(target, lambda call, target=target, position=position: self._native(target, position, call))
        self.is_active = True
        return self

    def __exit__(self, *_):
        self.is_active = False  # an audit hook cannot be removed
        for target, call in self._saved.items():
            owner, _, name = target.rpartition(".")
            setattr(pkgutil.resolve_name(owner), name, call)
        self._measure()
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    def _replace(self, target: str, wrapped: Callable[[Callable], Callable]):
        owner, _, name = target.rpartition(".")
        owner = pkgutil.resolve_name(owner)
        self._saved[target] = getattr(owner, name)
        setattr(owner, name, wrapped(self._saved[target]))

    def operation(self, name: str, path: str):
        """Counts an operation, and makes it fail if it is the n-th."""
        self._measure()
        self.operations.append(f"{name} {path}")
        if len(self.operations) != self.fail_at:
            return
        if self.limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if self.kill else signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        elif self.kill:
            os._exit(KILLED)
        else:
            named = () if name.startswith((*OF_DESCRIPTORS, "write")) else (path,)  # as in the system's own errors
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)

    @contextmanager
    def one_operation(self, name: str):
        """Counts all operations in the block as one, which fails before it begins."""
        self.operation(name, str(self.folder))
        before = _files(self.folder)
        self.is_active = False
        yield
        self.is_active = True
        self.named |= {path for path, _ in _files(self.folder) - before}

    def _measure(self):
        """Records the current size of each file that is written in native code."""
        for number, path in self.native.items():
            with suppress(OSError):  # it has been renamed
                self.sizes[number] = max(os.stat(path).st_size, self.sizes.get(number, 0))

    def below(self, path: object, folder: int | None = None) -> str | None:
        """Returns a path, or that of a descriptor, if it is below the folder."""
        if isinstance(path, int) or (isinstance(folder, int) and folder >= 0):
            try:
                descriptor = os.readlink(f"/proc/self/fd/{path if isinstance(path, int) else folder}")
            except OSError:
                return None
            path = descriptor if isinstance(path, int) else os.path.join(descriptor, os.fsdecode(path))
        try:
            path = Path(os.fsdecode(path)).absolute()
        except TypeError:  # an open file, whose writes are counted
            return None
        return str(path) if path.is_relative_to(self.folder) else None

    def _audit(self, event: str, arguments: tuple):
        if not self.is_active or event not in CALLS:
            return
        folder = None if CALLS[event] is None else arguments[CALLS[event]]
        if (path := self.below(arguments[0], folder)) is None:
            return
        if event == "os.rename":
            self._rename(path, str(Path(os.fsdecode(arguments[1])).absolute()))
        if event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.named.add(path)
            self.operation(event, path)

    def _rename(self, old: str, new: str):
        self.named |= {new + path.removeprefix(old) for path in self.named if Path(path).is_relative_to(old)}

    def _open(self, file, *arguments, **options):
        opened = self._saved["builtins.open"](file, *arguments, **options)
        return Written(opened, self) if self.is_active and opened.writable() and self.below(file) else opened

    def _of_descriptor(self, name: str, call: Callable) -> Callable:
        def counted(descriptor, *arguments):
            if self.is_active and (path := self.below(descriptor)) is not None:
                self.operation(name, path)
            return call(descriptor, *arguments)

        return counted

    def _native(self, target: str, position: int, call: Callable) -> Callable:
        def counted(*arguments, **options):
            path = self.below(arguments[position]) if self.is_active else None
            if path is not None and (target != "av.open" or "w" in arguments[1:]):
                self.native[len(self.operations) + 1] = Path(path)
                self.named.add(path)
                self.operation(target, path)
            return call(*arguments, **options)

        return counted


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
    """How commands ended when they were rerun after a fault; `other` lists failures that must not happen."""

    equal: int = 0
    clear_errors: dict[str, int] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)


def inject(
    command: list,
    folder: Path,
    *,
    every: int = 1,
    part: tuple[int, int] = (0, 1),
    distinct: bool = False,
    makes: str = "",
) -> dict:
    """Returns the outcomes of faults at the file operations of a command, and of rerunning it after them.

    Call it in a process without threads, where forks are safe.

    Args:
        command (`list`): Its name and options.
        folder (`Path`): Where it writes; emptied before each fault.
        every (`int`, *optional*, defaults to 1): Tests only each n-th fault.
        part (`tuple[int, int]`, *optional*, defaults to `(0, 1)`): `(i, n)` tests only the i-th of these, i from 0, and
            each n-th after it, to divide the work among n processes.
        distinct (`bool`, *optional*, defaults to `False`): Tests only the first of operations that differ only in
            numbers, such as those on one file of several students.
        makes (`str`, *optional*): Code that prepares the folder.

    Returns:
        `dict`: the numbers of `operations` and of `native` ones among them; `disks_and_kills`, the `Outcomes` of full
        disks and kills at each operation; and `limits`, those of size limits at native ones, which truncate a file.
    """
    _prepare(folder, makes)
    made = _files(folder)
    counted = _forked(command, Faults(folder))
    assert counted["returncode"] == 0, counted["stderr"]
    for name in counted["modules"]:  # once, instead of once per fault
        with suppress(Exception):  # some modules are created when others are imported
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    expected = contents(folder)
    written = {path for path, _ in _files(folder) - made}
    assert written <= set(counted["named"]), f"written unseen: {sorted(written - set(counted['named']))}"
    outcomes = {"disks_and_kills": Outcomes(), "limits": Outcomes()}
    faults = [*_faults(folder, counted["operations"], counted["sizes"])]
    if distinct:
        faults = _distinct(faults, counted["operations"])
    first, of = part
    for fault in faults[first * every :: of * every]:
        of_kind = outcomes["disks_and_kills" if fault.limit is None else "limits"]
        problem, error = _outcome(command, folder, makes, fault, expected)
        if problem:
            where = f"at {fault.fail_at}, {counted['operations'][fault.fail_at - 1]}"
            what = "kill" if fault.kill else "full disk"
            what = what if fault.limit is None else f"{what} after {fault.limit} bytes"
            of_kind.other.append(f"{what} {where}: {problem}")
        elif error:
            of_kind.clear_errors[error] = of_kind.clear_errors.get(error, 0) + 1
        else:
            of_kind.equal += 1
    counts = {"operations": len(counted["operations"]), "native": len(counted["sizes"])}
    return counts | {"faults": len(faults), **outcomes}


def _faults(folder: Path, operations: list, sizes: dict[str, int]) -> Iterator[Faults]:
    for kill in (False, True):
        for number in range(1, len(operations) + 1):
            yield Faults(folder, number, kill)
        for number, size in sizes.items():
            for limit in sorted({size // 2, max(size - 1, 0)}):
                yield Faults(folder, int(number), kill, limit)


def _distinct(faults: list[Faults], operations: list[str]) -> list[Faults]:
    """Returns the first fault of each kind among operations that differ only in numbers and temporary names."""
    first = {}
    for fault in faults:
        operation = re.sub(r"tmp\w+|\d+", "#", operations[fault.fail_at - 1])
        first.setdefault((operation, fault.kill, fault.limit is None), fault)
    return list(first.values())


def _outcome(command: list, folder: Path, makes: str, fault: Faults, expected: dict) -> tuple[str | None, str]:
    """Returns a failure that must not happen, and the error of the command when rerun after a fault, if any."""
    _prepare(folder, makes)
    failed = _forked(command, fault)
    if failed["returncode"] == 0 and (lost := set(different(contents(folder), expected)) & set(expected)):
        return f"ended well with another result: {sorted(lost)}", ""
    is_as_meant = failed["returncode"] in (0, KILLED if fault.kill else 0)
    problem = None if is_as_meant else problem_of(failed["stderr"])
    again = _forked(command, Faults(folder))
    if again["returncode"]:
        return problem or problem_of(again["stderr"]), "".join(errors_in(again["stderr"])[-1:])
    if found := different(contents(folder), expected):
        problem = problem or f"another result: {found}"
    return problem, ""


def _prepare(folder: Path, makes: str):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    exec(makes, {"folder": folder})


def _files(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def _forked(command: list, faults: Faults) -> dict:
    """Returns the exit status, error output and file operations of a command, run in a process of its own."""
    report = faults.folder.with_name("report.json")
    report.unlink(missing_ok=True)
    if (pid := os.fork()) == 0:
        for output in (1, 2):  # files would be subject to the size limit
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        try:
            with faults:
                result = run_command(*command)
            found = {"returncode": result.returncode, "stderr": result.stderr}
        except BaseException:
            found = {"returncode": 1, "stderr": traceback.format_exc()}
        found |= {"operations": faults.operations, "sizes": faults.sizes, "named": sorted(faults.named)}
        report.write_text(json.dumps(found | {"modules": list(sys.modules)}))
        os._exit(0)
    os.waitpid(pid, 0)
    return json.loads(report.read_text()) if report.exists() else {"returncode": KILLED, "stderr": ""}


def problem_of(stderr: str) -> str | None:
    """Returns why a failed command's message is not one clear sentence that names a file, or `None` if it is."""
    lines = errors_in(stderr)
    if len(lines) != 1:
        return f"no error in one line: {stderr[-700:]}"
    return None if "/" in lines[0] else f"names no file: {lines[0]}"


def errors_in(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


def contents(folder: Path) -> dict:
    """Returns the content of a folder, except checkpoints and pickles: JSON and cards without times, else bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.endswith(".bin") and "checkpoint-" not in name:
            content = path.read_bytes()
            found[name] = without_times(json.loads(content)) if path.suffix == ".json" else content
            found[name] = OF_CARDS.sub(b"", content) if path.suffix == ".md" else found[name]
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
