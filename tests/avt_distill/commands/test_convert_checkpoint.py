"""The command line of the conversion, as a user runs it."""

import json
import re

import pytest
import torch
from helpers.commands import Result, avt_distill, run_command
from helpers.places import PROJECT, require_shared
from safetensors.torch import load_file

from modeling_avt import AVTForAnticipation, AVTVideoProcessor


def run(*arguments) -> Result:
    return run_command("convert_checkpoint", *arguments)


def test_feature_checkpoints_are_written_without_a_processor(tmp_path):
    recorded = load_file(PROJECT / "tests" / "parity" / "fixtures" / "i_feat_action.safetensors")
    state = {key.removeprefix("checkpoint/"): value for key, value in recorded.items() if key.startswith("checkpoint/")}
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    (tmp_path / "experiment.txt").write_text("+model.future_predictor.n_head=4\nmodel.classifier_on_past=true\n")
    result = run(tmp_path / "checkpoint.pth", tmp_path / "out", "--experiment_config", tmp_path / "experiment.txt")
    assert result.returncode == 0, result.stderr
    assert "no backbone (accepts features), 11 actions" in result.stdout
    assert not (tmp_path / "out" / "video_preprocessor_config.json").exists()
    model = AVTForAnticipation.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        logits = model(video_features=recorded["in/clips"].flatten(2)).logits
    torch.testing.assert_close(logits, recorded["eval/clips/out/logits/action"], atol=1e-5, rtol=0)


def test_another_checkpoint_of_equal_name_and_size_is_not_converted_into_the_same_folder(tmp_path):
    recorded = load_file(PROJECT / "tests" / "parity" / "fixtures" / "i_feat_action.safetensors")
    state = {key.removeprefix("checkpoint/"): value for key, value in recorded.items() if key.startswith("checkpoint/")}
    files = []
    for number, scale in enumerate((1, 2)):
        files.append(tmp_path / str(number) / "checkpoint.pth")
        files[-1].parent.mkdir()
        torch.save({"model": {name: weight * scale for name, weight in state.items()}}, files[-1])
    assert files[0].stat().st_size == files[1].stat().st_size
    options = [tmp_path / "out", "--config_overrides", '{"head_num_heads": 4}']
    assert run(files[0], *options).returncode == 0
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    for arguments in (
        [files[1], *options],
        [files[0], tmp_path / "out", "--config_overrides", '{"head_num_heads": 2}'],
    ):
        result = run(*arguments)
        assert result.returncode == 1
        assert "exists, and this command did not write it from the same inputs" in result.stderr
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights
    assert run(files[0], *options).returncode == 0
    (tmp_path / "out" / "video_preprocessor_config.json").write_text("{}")
    assert run(files[1], *options, "--overwrite").returncode == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != weights
    assert not (tmp_path / "out" / "video_preprocessor_config.json").exists()


def test_video_checkpoints_are_written_with_the_reference_processor(tmp_path):
    checkpoint = require_shared("golden", "model", "iii_vit_action", "checkpoint.pth")
    names = [f"action {index}" for index in range(11)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    overrides = {"head_num_heads": 4, "backbone_num_attention_heads": 2, "tau_a": 0.5}
    result = run(
        checkpoint,
        tmp_path / "out",
        "--config_overrides",
        json.dumps(overrides),
        "--action_names",
        tmp_path / "names.txt",
    )
    assert result.returncode == 0, result.stderr
    assert "0.1 M parameters, vit, 11 actions" in result.stdout
    assert "differ by at most 0.0e+00" in result.stdout
    model = AVTForAnticipation.from_pretrained(tmp_path / "out")
    assert list(model.config.id2label.values()) == names
    assert model.config.tau_a == 0.5
    processor = AVTVideoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.size, processor.crop_size["height"], processor.antialias) == ({"shortest_edge": 70}, 64, False)


def test_errors_are_one_line(tmp_path):
    torch.save({"model": {}}, tmp_path / "checkpoint.pth")
    for name, message in (("checkpoint.pth", "it lacks future_predictor"), ("missing.pth", "No such file")):
        with pytest.raises(SystemExit, match=rf"^error: .*{name}.*{message}|^error: .*{message}.*{name}"):
            avt_distill("convert_checkpoint", tmp_path / name, tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["cut", "text", "empty", "objects", "numbers", "other shapes"])
def test_files_that_are_not_checkpoints_are_refused_in_one_line(tmp_path, content):
    recorded = load_file(PROJECT / "tests" / "parity" / "fixtures" / "i_feat_action.safetensors")
    state = {key.removeprefix("checkpoint/"): value for key, value in recorded.items() if key.startswith("checkpoint/")}
    path = tmp_path / "checkpoint.pth"
    if content == "other shapes":
        state["future_predictor.encoder.weight"] = torch.zeros(3)
    torch.save({"model": dict.fromkeys(state, 1) if content == "numbers" else state}, path)
    if content == "objects":
        torch.save(torch.nn.Linear(2, 2), path)
    elif content in ("cut", "text", "empty"):
        path.write_bytes({"cut": path.read_bytes()[:-200], "text": b"hello", "empty": b""}[content])
    result = run(path, tmp_path / "out", "--config_overrides", '{"head_num_heads": 4}')
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {path} ")
    assert result.stderr.count("\n") == 1


def test_a_damaged_file_of_overrides_is_corrected_and_not_deleted(tmp_path):
    torch.save({"model": {}}, tmp_path / "checkpoint.pth")
    (tmp_path / "mine.json").write_text("{head_num_heads: 4}")
    result = run(tmp_path / "checkpoint.pth", tmp_path / "out", "--config_overrides", tmp_path / "mine.json")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'mine.json'} is not JSON (")
    assert result.stderr.endswith("): correct it, or give another file.\n")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "cut\nmix\n",
            "11 action classes, but there are 2 action names: .* in id2label or in the file of --action_names",
        ),
        ("cut\nmix\ncut\n", r".*names\.txt has the name 'cut' several times"),
        ("", r".*names\.txt is empty: write one name per line"),
    ],
)
def test_a_file_of_names_that_does_not_fit_is_named(tmp_path, names, message):
    recorded = load_file(PROJECT / "tests" / "parity" / "fixtures" / "i_feat_action.safetensors")
    state = {key.removeprefix("checkpoint/"): value for key, value in recorded.items() if key.startswith("checkpoint/")}
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    (tmp_path / "names.txt").write_text(names)
    options = ["--config_overrides", '{"head_num_heads": 4}', "--action_names", tmp_path / "names.txt"]
    result = run(tmp_path / "checkpoint.pth", tmp_path / "out", *options)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert re.search(message, result.stderr)
