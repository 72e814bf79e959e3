"""No command runs the code of a checkpoint, or asks for permission to; nothing is unpickled."""

import ast
import json

import pytest
from helpers.commands import run_command
from helpers.places import PROJECT

from avt_distill.features.backbones import load_backbone
from avt_distill.teacher.language_models import load_language_model_config

SOURCES = sorted((PROJECT / "avt_distill").rglob("*.py"))


@pytest.fixture
def foreign(tmp_path):
    """A checkpoint with code that leaves a trace if it is run."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    classes = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": ["code.Tokenizer", None]}
    classes |= {"AutoModelForMaskedLM": "code.Model", "AutoModelForCausalLM": "code.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "foreign", "auto_map": classes}))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w').close()\n")
    return folder


@pytest.mark.parametrize("load", [load_backbone, load_language_model_config])
def test_code_of_a_checkpoint_is_not_run(load, foreign, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match="foreign"):
        load(foreign)
    assert not (tmp_path / "trace").exists()


def test_commands_neither_run_code_nor_ask(foreign, tmp_path, video, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *_: asked.append(1) or "y")
    recipe = json.dumps({"id": "1", "actions": [["cut", "egg"]]})
    (tmp_path / "recipes.jsonl").write_text(recipe + "\n")
    adapt = ["--model_name_or_path", foreign, "--recipes", tmp_path / "recipes.jsonl", "--output_dir", tmp_path / "lm"]
    commands = (
        ["extract_features", foreign, video, "--output", tmp_path / "features", "--cpu"],
        ["adapt_language_model", *adapt, "--use_cpu", "true"],
        ["anticipate", video, "--model", foreign],
        ["export_model", foreign, tmp_path / "exported"],
    )
    for command in commands:
        result = run_command(*command)
        assert result.returncode, command
        assert "error: " in result.stderr
    assert not asked
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_auto_class_is_loaded_without_remote_code(path):
    text = path.read_text()
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        parts = [ast.unparse(call.func), *map(ast.unparse, call.args)]
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        place = f"{path.name}, line {call.lineno}"
        if any(part.startswith("Auto") and part.endswith((".from_pretrained", ".from_config")) for part in parts):
            assert options.get("trust_remote_code") == "False", place
        if parts[0] == "torch.load":
            assert options.get("weights_only") == "True", place
        assert options.get("trust_remote_code") != "True", place
        assert parts[0] not in ("pickle.load", "pickle.loads"), place
