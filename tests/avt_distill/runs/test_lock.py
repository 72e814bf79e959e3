"""One command at a time writes to a folder: a second one fails with a clear error, a killed one leaves no lock."""

import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers.places import PROJECT
from helpers.processes import WITH_THE_PROJECT, kept_port
from safetensors import SafetensorError

from avt_distill.runs.errors import sentence
from avt_distill.runs.folder import whole_file
from avt_distill.runs.lock import LOCK, InUseError, locked, remove_unfinished, unchanged

HOLDER = """
import sys, time
from avt_distill.runs.folder import whole_file
from avt_distill.runs.lock import locked
with locked(sys.argv[1]), whole_file(sys.argv[1] + "/half.json") as partial:
    partial.write_text("half")
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `run` and is writing a file in it."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_command_ends_with_the_folder_and_the_process(tmp_path, holder):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for place in ("run", "link", "run/../run"):
        with pytest.raises(InUseError, match=rf"run is in use by process {holder.pid} on .*: wait until it ends"):
            locked(tmp_path / place).__enter__()
    (tmp_path / "run" / ".tmpkRsAzA").touch()
    with locked(tmp_path):  # the parent folder is not locked
        pass
    remove_unfinished(tmp_path)
    assert (tmp_path / "run" / ".tmpkRsAzA").exists()
    assert (tmp_path / "run" / ".half.json.partial").exists()  # what is being written stays


def test_a_folder_that_is_written_to_is_not_read(tmp_path, holder):
    student = tmp_path / "run" / "distilled_seed0"
    student.mkdir()
    for folder in (tmp_path / "run", student):
        with pytest.raises(InUseError, match=rf"run is in use by process {holder.pid} on .*: wait until it ends"):
            unchanged(folder).__enter__()
    with unchanged(tmp_path):  # whose own files are not being written
        pass
    assert not list(student.iterdir())


def test_a_folder_that_is_read_is_not_written_to(tmp_path):
    (tmp_path / "run").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with unchanged(tmp_path / "run"), unchanged(tmp_path / "run"):
        command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
        second = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert f"run is in use by process {os.getpid()} on" in second.stderr
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_to_is_read_without_a_lock(tmp_path, monkeypatch, number):
    def open_read_only(path, flags, *args, **kwargs):
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), str(path))
        return real_open(path, flags, *args, **kwargs)

    real_open = os.open
    monkeypatch.setattr("os.open", open_read_only)
    with unchanged(tmp_path):
        assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_refused_while_its_owner_writes(tmp_path, holder):
    (tmp_path / "run" / LOCK).chmod(0o444)
    with pytest.raises(InUseError, match=f"in use by process {holder.pid}"):
        unchanged(tmp_path / "run").__enter__()


def test_a_killed_process_locks_nothing_and_what_it_left_is_removed(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with unchanged(tmp_path / "run"):
        pass
    (tmp_path / "run" / LOCK).touch()
    (tmp_path / "run" / "inner" / ".unfinished_x").mkdir(parents=True)
    (tmp_path / "run" / "inner" / ".tmpkRsAzA").touch()  # a temporary file of safetensors
    assert (tmp_path / "run" / LOCK).exists()
    with locked(tmp_path / "run"):
        assert {path.name for path in (tmp_path / "run").iterdir()} == {LOCK, "inner"}
        assert not list((tmp_path / "run" / "inner").iterdir())
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_leftover_lock_file_locks_nothing(tmp_path):
    (tmp_path / LOCK).write_text('{"pid": 1, "host": "here", "command": "distill", "since": "yesterday"}')
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_refused_run_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="refused"), locked(tmp_path / "a" / "b"):
        raise ValueError("refused")
    assert not list(tmp_path.iterdir())


FULL = "No space left on device"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, FULL), "^The disk is full: there is no space left for {place}. Free some, and rerun"),
        (Exception(f"{FULL} (os error 28)"), "^The disk is full: there is no space left for {place}. Free some"),
        (SafetensorError("I/O error: File too large (os error 27)"), "write {place}: File too large; .*ulimit -f"),
        (OSError(errno.EFBIG, "File too large"), "write {place}: File too large; give a path on a file system that"),
        (RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"), "^{place} cannot be writt"),
        (RuntimeError("basic_ios::clear: iostream error"), r"^{place} cannot be written to its end \(basic_ios"),
    ],
)
def test_errors_of_writing_that_name_no_file_name_the_place(tmp_path, error, message):
    with pytest.raises(OSError) as raised, locked(tmp_path / "run"):  # noqa: PT011, the sentence is compared below
        raise error
    assert re.search(message.format(place=re.escape(str(tmp_path / "run"))), sentence(raised.value))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, FULL, "x.json"), OSError(errno.EIO, "Input/output error"), KeyError("actions")]
)
def test_other_errors_stay_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as raised, locked(tmp_path / "run"):
        raise error
    assert raised.value is error


def test_a_process_takes_its_own_lock_again_and_files_are_locked_one_by_one(tmp_path):
    with locked(tmp_path), locked(tmp_path), locked(tmp_path / "a.jsonl", is_file=True):
        with locked(tmp_path / "b.jsonl", is_file=True):
            pass
        assert {path.name for path in tmp_path.iterdir()} == {LOCK, "_a.jsonl.lock"}
    assert not list(tmp_path.iterdir())


def test_a_worker_that_outlives_its_parent_holds_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    with locked(tmp_path):
        worker = context.Process(target=time.sleep, args=(60,))
        worker.start()
    try:
        with locked(tmp_path):
            pass
    finally:
        worker.kill()
        worker.join()


RANK = """
import os, time
from pathlib import Path
from accelerate import PartialState
from avt_distill.runs.lock import locked
PartialState(cpu=True)
with locked("run"):
    while os.environ["RANK"] == "1" and not Path("go").exists():
        time.sleep(0.01)
"""


def test_the_processes_of_a_run_share_its_lock_until_the_last_ends(fork_server, tmp_path):
    with kept_port() as port:
        shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        own = [{"RANK": rank, "LOCAL_RANK": rank, "HF_HUB_OFFLINE": "1"} for rank in "01"]
        first, last = (fork_server.start(WITH_THE_PROJECT + RANK, tmp_path, **shared, **rank) for rank in own)
        first.wait()
        assert first.returncode == 0, first.stderr
        with pytest.raises(InUseError):
            locked(tmp_path / "run").__enter__()
        (tmp_path / "go").touch()
        last.wait()
    assert last.returncode == 0, last.stderr
    assert not list((tmp_path / "run").glob("*"))


def test_a_file_that_a_killed_process_left_half_written_is_overwritten(tmp_path):
    (tmp_path / ".a.json.partial").write_text("half of what was to be written")
    with whole_file(tmp_path / "a.json") as partial:
        partial.write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "{}"
