"""Errors of the system and of other libraries: one sentence each; bugs keep their traceback."""

import errno
import os
import zipfile

import numpy as np
import pyarrow
import pytest
import safetensors.torch
import torch
import yaml
from datasets.exceptions import DatasetGenerationError
from helpers.commands import run_command
from huggingface_hub.utils import validate_repo_id

from avt_distill.__main__ import errors_in_one_line
from avt_distill.runs.devices import available_devices, checked_device
from avt_distill.runs.errors import OF_LIBRARIES, sentence


def wrapped(cause: Exception) -> Exception:
    error = DatasetGenerationError("An error occurred while generating the dataset")
    error.__cause__ = cause
    return error


NO_NAMES = ("/runs/teacher", "runs/of/mine", "my teacher")


def no_name(name: str) -> Exception:
    """Returns the error that commands raise from huggingface-hub's error about a path that does not exist."""
    try:
        validate_repo_id(name)
    except ValueError as error:
        made = ValueError(f"Cannot ({str(error).splitlines()[0]}): give another.")
        made.__cause__ = error
        return made
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/.a.json." + 32 * "0" + ".partial"), "for out/a.json"),
        (safetensors.SafetensorError("I/O error: No space left on device (os error 28)"), "The disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"), "the disk is not full"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), "the disk is not full"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs"), "write runs: Permission denied; change its"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), b"x"), "x: Read-only file system; give a path that can be"),
        (safetensors.SafetensorError("Error while deserializing\nheader"), "Error while deserializing header"),
        (pyarrow.ArrowCapacityError("too large"), "too large"),
        (zipfile.BadZipFile("File is not a zip file"), "File is not a zip file"),
        (yaml.YAMLError("while parsing"), "while parsing"),
        (torch.OutOfMemoryError("CUDA out of memory."), "not enough memory .* smaller batches"),
        (wrapped(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), "The disk is full"),
        (OSError("Can't load\n\nthe file"), "^Can't load the file$"),
        *((no_name(name), f"Cannot .'{name}' is neither a folder nor a possible name .*: give") for name in NO_NAMES),
        *((no_name(name).__cause__, f"^error: '{name}' is neither .* Hub: correct it.$") for name in NO_NAMES),
    ],
)
def test_errors_of_the_system_and_of_libraries_are_one_sentence(error, message):
    with pytest.raises(SystemExit, match=message.removeprefix("^")) as end, errors_in_one_line():
        raise error
    assert "\n" not in end.value.code
    assert ".partial" not in end.value.code


@pytest.mark.parametrize(
    "error",
    [KeyError("actions"), TypeError("x"), RuntimeError("shapes differ"), AssertionError(), wrapped(KeyError(1))],
)
def test_bugs_keep_their_traceback(error):
    assert sentence(error) is None
    with pytest.raises(type(error)), errors_in_one_line():
        raise error


def test_libraries_are_those_that_raise():
    import av
    import httpx
    import lmdb

    for kind in (safetensors.SafetensorError, pyarrow.ArrowException, lmdb.Error, yaml.YAMLError, av.FFmpegError):
        assert (kind.__module__.split(".")[0], kind.__name__) in OF_LIBRARIES
    assert (httpx.HTTPError.__module__, "HTTPError") in OF_LIBRARIES


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_is_reported():
    with pytest.raises(SystemExit, match="The disk is full"), errors_in_one_line(), open("/dev/full", "w") as file:
        file.write("x")


def test_outputs_that_cannot_be_written_are_named(tmp_path):
    from avt_distill.evaluation.scores import ScoreTable

    ScoreTable(["a", "b"], np.eye(2, dtype=np.float32), np.arange(2)).save(tmp_path / "scores.parquet")
    (tmp_path / "file").write_text("")
    for output in ("missing/metrics.json", "file/metrics.json", "/proc/metrics.json"):
        result = run_command("evaluate", "scores.parquet", "--output", output, folder=tmp_path)
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")
        assert output in result.stderr
        assert result.stderr.count("\n") == 1


def test_devices_that_are_not_there_are_refused_with_those_that_are():
    assert checked_device(None) is None
    assert checked_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "gpu", "", "-1", "meta", "cpu:x"):
        with pytest.raises(ValueError, match=r"device is '.*give one of \['cpu'") as refusal:
            checked_device(name)
        assert str(available_devices()) in str(refusal.value)
