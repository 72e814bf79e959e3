"""`from avt_distill import ...`: every name comes from its module, and is visible to type checkers and completion."""

import ast
import re
import textwrap
from pathlib import Path

import pytest
from helpers.places import PROJECT
from tiny_kitchen import write_kitchen, write_soft_labels

import avt_distill

STUB = ast.parse((PROJECT / "avt_distill" / "__init__.pyi").read_text())


def test_names_for_people_and_for_type_checkers_are_the_same():
    imported = [(alias, node.module) for node in STUB.body for alias in node.names]
    assert {alias.name: module for alias, module in imported} == avt_distill.HOMES
    assert all(alias.asname == alias.name for alias, _ in imported)  # public, to a type checker
    assert set(avt_distill.HOMES) <= set(dir(avt_distill))  # and to completion


@pytest.mark.parametrize("name", avt_distill.HOMES)
def test_a_public_name_is_what_its_module_defines(name):
    value = getattr(avt_distill, name)
    assert value.__name__ == name
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'avt_distill' has no attribute 'Trainer'"):
        _ = avt_distill.Trainer


def test_both_rings_are_typed():
    assert all((PROJECT / ring / "py.typed").is_file() for ring in ("avt_distill", "modeling_avt"))


def test_the_readmes_training_in_python_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    (example,) = (block for block in blocks if "DistillationTrainer(" in block)
    write_kitchen(tmp_path / "my_data")
    write_soft_labels(tmp_path / "soft_labels.parquet", tmp_path / "my_data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = {}
    exec(textwrap.dedent(example), names)
    assert Path("student", "model.safetensors").exists()
    log = names["trainer"].state.log_history
    assert log[-1]["eval_action_loss"] > 0
    assert names["trainer"].state.epoch == 20
