"""Runs code in separate processes, with or without access to the project."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.places import PROJECT

# An editable install adds the project through a finder: both the finder and the path are removed.
WITHOUT_THE_PROJECT = f"""
import importlib.util, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.path = [path for path in sys.path if path not in ("", {str(PROJECT)!r})]
assert importlib.util.find_spec("modeling_avt") is None
"""
# The first line of code that needs the project.
WITH_THE_PROJECT = f"import sys; sys.path[:0] = [{str(PROJECT)!r}, {str(PROJECT / 'tests')!r}]\n"


def command(name: str, *arguments) -> str:
    """Returns code that runs `avt-distill NAME ...`."""
    return f"{WITH_THE_PROJECT}from avt_distill.__main__ import main\nmain({[name, *map(str, arguments)]!r})\n"


def run_python(
    code: str, folder: Path, *, fails: bool = False, python: str | Path = sys.executable, **environment: str
) -> str:
    """Runs code in a process with its own Hugging Face cache, and returns its output.

    With `fails`, the code must fail, and its error output is returned.
    """
    result = subprocess.run(
        [python, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**inherited(), "HF_HOME": str(folder / "hf_home"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode != 0) == fails, result.stderr[-4000:]
    return result.stderr if fails else result.stdout


def inherited() -> dict[str, str]:
    """Returns this process's environment without the variables that change what another process imports."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HUB_OFFLINE")}


@contextmanager
def kept_port() -> Iterator[int]:
    """Yields a port of the loopback address that no other process gets. It refuses connections until one listens."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


class ForkServer:
    """Runs code as `run_python` does, but without time for imports: in forks of a process that has imported libraries.

    That process cannot import this project (see `WITHOUT_THE_PROJECT`). No run affects another: each starts with the
    libraries as imported, and `HF_HOME` is a link to a different folder for each run.

    Args:
        root (`Path`): An empty folder for output and the link.
        environment (`str`): Variables that the libraries read when they are imported; the same for all runs.
    """

    def __init__(self, root: Path, **environment: str):
        self.home, self.root, self.names, self.is_ready = root / "hf_home", root, itertools.count(), False
        self.log, self.environment = root / "server.txt", environment
        code = WITHOUT_THE_PROJECT + (PROJECT / "tests" / "helpers" / "fork_server.py").read_text()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=root,
                # No thread pool, since forks would lack its threads.
                env={**inherited(), "OMP_NUM_THREADS": "1", "HF_HOME": str(self.home), **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )

    def _reply(self) -> str:
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-4000:]
        return line.strip()

    def ask(self, **request):
        if not self.is_ready:
            self.is_ready = self._reply() == "ready"
        print(json.dumps(request), file=self.process.stdin)
        return json.loads(self._reply())

    def start(self, code: str, folder: Path, **environment: str) -> "Fork":
        """Starts a process that runs the code, and returns it; `environment` adds variables."""
        (folder / "hf_home").mkdir(exist_ok=True)
        self.home.unlink(missing_ok=True)
        self.home.symlink_to(folder / "hf_home")
        number = next(self.names)
        written = {name: str(self.root / f"{number}.{name}") for name in ("stdout", "stderr")}
        for file in written.values():
            Path(file).touch()  # the process may not have opened it when it is first read
        where = {"folder": str(folder), "environment": environment, **written}
        return Fork(self, self.ask(code=textwrap.dedent(code), **where), **written)

    def run(self, code: str, folder: Path, *, fails: bool = False, **environment: str) -> str:
        """Returns the output of the code; with `fails`, it must fail, and its error output is returned."""
        process = self.start(code, folder, **environment)
        process.wait()
        assert (process.returncode != 0) == fails, process.stderr[-4000:]
        return process.stderr if fails else process.stdout

    def run_several(self, code: str, folder: Path, num_processes: int = 2, timeout_s: float = 240, **environment: str):
        """Runs code, offline, in processes with the variables by which `accelerate launch` connects processes."""
        shared = {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
        shared |= {"HF_HUB_OFFLINE": "1", **environment}
        ends_at = time.monotonic() + timeout_s
        with kept_port() as port:
            shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_processes)]
            processes = [self.start(code, folder, **shared, **rank) for rank in ranks]
            while None in [process.poll() for process in processes]:
                if any(process.returncode for process in processes) or time.monotonic() > ends_at:
                    for process in processes:  # those that are waiting for the failed one
                        process.kill()
                time.sleep(0.01)
        assert not any(process.returncode for process in processes), [process.stderr[-4000:] for process in processes]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


class Fork:
    """A process of a `ForkServer`, with the part of the interface of `subprocess.Popen` that tests need."""

    def __init__(self, server: ForkServer, pid: int, stdout: str, stderr: str):
        self.server, self.pid, self.returncode = server, pid, None
        self._stdout, self._stderr = Path(stdout), Path(stderr)

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.server.ask(pid=self.pid)
        return self.returncode

    def wait(self, timeout_s: float = 240):
        """Waits until the process ends; kills it after `timeout_s`."""
        ends_at = time.monotonic() + timeout_s
        while self.poll() is None:
            if time.monotonic() > ends_at:
                self.kill()
                raise TimeoutError(f"A process ran for more than {timeout_s} s: {self.stderr[-4000:]}")
            time.sleep(0.01)

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
