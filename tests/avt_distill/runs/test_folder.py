"""The folder of a run: checkpoints that can be resumed, files that are whole, settings of the same run."""

import json

import pytest

from avt_distill.runs.folder import (
    growing_json,
    keep_settings,
    last_whole_checkpoint,
    read_json,
    whole_file,
    write_json,
)


def test_checkpoints_that_a_kill_cut_off_are_passed_over(tmp_path):
    for step, state in ((9, "{}"), (100, "{}"), (200, None), (300, '{"epoch": 1')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"")
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-best").mkdir()
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")


def test_no_checkpoint_means_a_new_start(tmp_path):
    assert last_whole_checkpoint(tmp_path) is None
    assert last_whole_checkpoint(tmp_path / "nowhere") is None


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
    with pytest.raises(ValueError, match=r"settings\.json is not JSON .*: delete it and rerun"):
        keep_settings(path, {"seed": 1}, what="a student")


def test_only_the_same_run_resumes(tmp_path):
    path = tmp_path / "run" / "settings.json"
    keep_settings(path, {"seed": 1, "shape": (2, 3)}, should_save=False, what="a student")
    assert not path.parent.exists()
    for _ in range(2):
        keep_settings(path, {"seed": 1, "shape": (2, 3)}, what="a student")
    keep_settings(path, {"seed": 1}, what="a student")  # an older file may name more
    with pytest.raises(ValueError, match=r"run holds a student with shape \[2, 3\], not \[4\] .*\['shape', 'rate'\]"):
        keep_settings(path, {"seed": 1, "shape": [4], "rate": 0.1}, what="a student")
