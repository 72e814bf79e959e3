"""Checkpoints, teachers and soft labels that a command did not create are not overwritten."""

import shutil

import pytest
from helpers.commands import run_command

from avt_distill.data import LabelSpace
from avt_distill.runs.outputs import holds
from avt_distill.teacher.arguments import TeacherArguments
from avt_distill.teacher.fine_tuning import HistoryRule, fine_tuned_teacher

pd = pytest.importorskip("pandas")


def test_a_conversion_keeps_another_checkpoint(tmp_path):
    (tmp_path / "checkpoint.pth").write_bytes(b"x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"mine")
    result = run_command("convert_checkpoint", tmp_path / "checkpoint.pth", tmp_path / "mine")
    assert "this command did not write it" in result.stderr
    result = run_command("convert_checkpoint", tmp_path / "checkpoint.pth", tmp_path, "--overwrite")
    assert "otherwise the input would be lost" in result.stderr
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == b"mine"


def test_a_teacher_is_not_written_over_its_own_model(tmp_path, tiny_encoder):
    model = tmp_path / "runs" / "model"
    shutil.copytree(tiny_encoder, model)
    rows = pd.DataFrame({"uid": ["a"], "video_id": ["v"], "history": [[]], "action": [0], "verb": [0], "noun": [0]})

    for output, message in ((model, "input would be lost"), (model.parent, "input would be lost")):
        args = TeacherArguments(str(output), model_name_or_path=str(model), use_cpu=True)
        with pytest.raises(ValueError, match=message):
            fine_tuned_teacher(rows, LabelSpace(["cut"]), args, HistoryRule())
    args = TeacherArguments(str(model), model_name_or_path="user/other", use_cpu=True)
    with pytest.raises(ValueError, match="this command did not write it"):
        fine_tuned_teacher(rows, LabelSpace(["cut"]), args, HistoryRule())
    assert not holds("settings.json")(model)
