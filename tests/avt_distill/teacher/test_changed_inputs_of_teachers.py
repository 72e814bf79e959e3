"""A finished or interrupted teacher is reused only for the rows, options and language model it was trained with."""

import json
from pathlib import Path

import pytest
from helpers.commands import avt_distill
from tiny_kitchen import write_kitchen
from tiny_language_models import write_language_model


def finetune(root: Path, *more: str):
    given = ["--dataset", root / "data", "--model_name_or_path", root / "bert", "--output_dir", root / "teacher"]
    given += ["--held_out_fraction", 0, "--num_train_epochs", 1, "--save_strategy", "no", "--use_cpu", "true"]
    avt_distill("finetune_teacher", *given, "--cache_dir", root / "cache", *more)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("teacher")
    write_kitchen(root / "data")
    write_language_model(root / "bert", "bert")
    finetune(root)
    return root


def test_a_teacher_of_changed_options_is_not_reused(root):
    with pytest.raises(SystemExit, match="holds a teacher with dataloader_drop_last False, not True"):
        finetune(root, "--dataloader_drop_last", "true")
    finetune(root, "--logging_steps", 3, "--bf16_full_eval", "false")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("v0,7,10,open_fridge,train", "v0,7,10,take_egg,train", "training_rows.action"),
        ("v0,7,10,open_fridge,train\n", "", "training_rows.uid"),
    ],
)
def test_a_teacher_of_changed_rows_is_not_reused(root, old, new, named):
    path = root / "data" / "segments.csv"
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))
    try:
        with pytest.raises(SystemExit, match=rf"holds a teacher with .*{named}"):
            finetune(root)
    finally:
        path.write_text(before)


def test_a_teacher_of_an_overwritten_language_model_is_not_reused(root):
    path = root / "bert" / "config.json"
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), "hidden_dropout_prob": 0.4}))
    try:
        with pytest.raises(SystemExit, match=r"holds a teacher with model_content\.config\.json"):
            finetune(root)
    finally:
        path.write_text(before)
