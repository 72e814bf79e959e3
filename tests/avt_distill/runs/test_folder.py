"""The folder of a run: files are complete, and only the same run resumes."""

import json
import os
import resource
import signal

import numpy as np
import pytest
from safetensors.numpy import save_file

from avt_distill.runs.folder import (
    growing_json,
    is_record,
    keep_settings,
    read_json,
    whole_file,
    whole_files,
    write_json,
)


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"metrics": 1})

    def write_half():
        with whole_file(path) as partial:
            partial.write_text('{"metr')
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_half()
    assert read_json(path) == {"metrics": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_or_folder_that_was_given(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no folder '{tmp_path}/missing'") as found:
        write_json(tmp_path / "missing" / "a.json", {})
    assert found.value.filename == str(tmp_path / "missing" / "a.json")
    long = tmp_path / f"{'a' * 250}.json"
    with pytest.raises(OSError, match="too long") as found:
        write_json(long, {})
    assert found.value.filename == str(long)


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as found, whole_file(tmp_path / "a.json"):
        (tmp_path / "other.json").read_text()
    assert found.value.filename == str(tmp_path / "other.json")
    assert not list(tmp_path.iterdir())


def test_two_writers_of_a_file_do_not_write_into_each_other(tmp_path):
    with whole_file(tmp_path / "a.json") as first:
        first.write_text("first")
        write_json(tmp_path / "a.json", "second")
        assert read_json(tmp_path / "a.json") == "second"
    assert (tmp_path / "a.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("umask", [0o002, 0o027, 0o077])
def test_weights_are_as_readable_as_any_other_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        (tmp_path / "plain").touch()
        with whole_files(tmp_path) as folder:
            save_file({"a": np.zeros(3)}, folder / "model.safetensors")
            assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o600  # safetensors 0.8
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "plain"]


def test_files_of_a_folder_appear_together_and_the_last_one_last(tmp_path):
    def write(error: Exception | None = None):
        with whole_files(tmp_path, last="config.json") as folder:
            for name in ("config.json", "model.safetensors"):
                (folder / name).write_text("")
            assert not (tmp_path / "config.json").exists()
            if error:
                raise error

    with pytest.raises(OSError, match="No space"):
        write(OSError("No space left on device"))
    assert not list(tmp_path.iterdir())
    write()
    times = [(tmp_path / name).stat().st_ctime_ns for name in ("model.safetensors", "config.json")]
    assert times == sorted(times)


def test_a_full_disk_leaves_a_growing_file_as_it_was(tmp_path):
    path = tmp_path / "moments.json"
    with growing_json(path, {"video": "a"}, "moments") as append:
        append("fits")
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limit[1]))
        try:
            with pytest.raises(OSError, match=r"moments\.json"):
                append("does not fit" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            signal.signal(signal.SIGXFSZ, ignored)
        assert read_json(path) == {"video": "a", "moments": ["fits"]}
        append("fits, too")
    assert read_json(path)["moments"] == ["fits", "fits, too"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"other": 1}', b"\xff"])
def test_a_record_that_cannot_be_read_is_named_and_written_again(tmp_path, content, caplog):
    path = tmp_path / "results.json"
    assert not is_record(path, "metrics")
    assert not caplog.records
    path.write_bytes(content)
    assert not is_record(path, "metrics")
    assert str(path) in caplog.text
    assert "written again" in caplog.text
    write_json(path, {"metrics": 1})
    assert is_record(path, "metrics")


def test_a_growing_file_is_json_after_each_item(tmp_path):
    path = tmp_path / "moments.json"
    path.write_text("of yesterday, and longer than what is written first " * 9)
    items = [{"label": "Ei schlagen, ü"}, 2, [3, {"a": []}]]
    with growing_json(path, {"video": "a"}, "moments") as append:
        assert read_json(path) == {"video": "a", "moments": []}
        for count, item in enumerate(items, start=1):
            append(item)
            assert read_json(path) == {"video": "a", "moments": items[:count]}
    assert path.read_text() == json.dumps({"video": "a", "moments": items}, indent=1, ensure_ascii=False) + "\n"


def test_a_file_that_is_not_json_is_named(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"seed": ')
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(ValueError, match=r"settings\.json is not JSON .*: restore it, or delete it and rerun"):
        keep_settings(path, {"seed": 1}, what="a student")


def test_only_the_same_run_resumes(tmp_path):
    path = tmp_path / "run" / "settings.json"
    keep_settings(path, {"seed": 1, "shape": (2, 3)}, should_save=False, what="a student")
    assert not path.parent.exists()
    for _ in range(2):
        keep_settings(path, {"seed": 1, "shape": (2, 3)}, what="a student")
    (path.parent / "checkpoint-1").mkdir()
    (path.parent / "checkpoint-1" / "model.safetensors").write_text("")
    keep_settings(path, {"seed": 1}, what="a student")  # an older file may record more settings
    with pytest.raises(ValueError, match=r"run holds a student with shape \[2, 3\], not \[4\] .*\['shape', 'rate'\]"):
        keep_settings(path, {"seed": 1, "shape": [4], "rate": 0.1}, what="a student")


def test_a_run_without_results_does_not_claim_the_folder(tmp_path):
    path = tmp_path / "settings.json"
    keep_settings(path, {"seed": 1}, what="a teacher")
    for name in ("arguments.yaml", "_avt_distill.lock", ".model.safetensors.partial"):
        (tmp_path / name).write_text("")
    (tmp_path / "checkpoints").mkdir()
    keep_settings(path, {"seed": 2}, what="a teacher")
    assert read_json(path) == {"seed": 2}
    keep_settings(path, {"seed": 3}, should_save=False, what="a teacher")  # another process of the same run
    assert read_json(path) == {"seed": 2}
    (tmp_path / "checkpoints" / "weights").write_text("")
    with pytest.raises(ValueError, match="holds a teacher with seed 2, not 3"):
        keep_settings(path, {"seed": 3}, what="a teacher")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_paths_that_are_not_files_are_never_replaced(tmp_path, make):
    make(tmp_path / "place")
    kind = (tmp_path / "place").stat().st_mode
    with pytest.raises(ValueError, match="is a folder, a device or a pipe"):
        write_json(tmp_path / "place", {})
    assert (tmp_path / "place").stat().st_mode == kind
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
