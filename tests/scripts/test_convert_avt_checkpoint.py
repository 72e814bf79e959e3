"""The command line of the conversion, as a user runs it."""

import json
import subprocess
import sys

import torch
from conftest import PROJECT, require_shared

from modeling_avt import AVTForAnticipation, AVTVideoProcessor


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(PROJECT / "scripts" / "convert_avt_checkpoint.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_writes_a_folder_that_loads(tmp_path):
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
    assert "differ by 0.0e+00 at most" in result.stdout
    model = AVTForAnticipation.from_pretrained(tmp_path / "out")
    assert list(model.config.id2label.values()) == names
    assert model.config.tau_a == 0.5
    processor = AVTVideoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.size, processor.crop_size["height"], processor.antialias) == ({"shortest_edge": 70}, 64, False)


def test_errors_are_one_line(tmp_path):
    torch.save({"model": {}}, tmp_path / "checkpoint.pth")
    for arguments in ((tmp_path / "checkpoint.pth",), (tmp_path / "missing.pth",)):
        result = run(*arguments, tmp_path / "out")
        assert result.returncode == 1
        assert result.stderr.strip().splitlines()[-1].startswith("error: ")
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out").exists()
