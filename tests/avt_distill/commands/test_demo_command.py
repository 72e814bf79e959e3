"""The demo: its language model, and all of it end to end."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from helpers.commands import run_command
from helpers.places import PROJECT
from transformers import AutoModelForMaskedLM

from avt_distill.commands import demo
from avt_distill.recipes.small_language_model import write_language_model
from avt_distill.teacher.language_models import load_tokenizer

TEXTS = ["crack egg, whisk egg, heat pan", "Cut onion, fry onion"]


def test_a_small_language_model_has_a_token_for_every_word(tmp_path):
    words = write_language_model(tmp_path, TEXTS, hidden_size=16, num_heads=2)
    assert words == [",", "crack", "cut", "egg", "fry", "heat", "onion", "pan", "whisk"]
    tokenizer = load_tokenizer(tmp_path)
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["[CLS]", "[SEP]"]
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ,", ",") == text.lower()
    assert tokenizer.unk_token_id in tokenizer("peel egg")["input_ids"]


def test_a_small_language_model_is_the_same_for_the_same_seed(tmp_path):
    before = torch.random.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_language_model(tmp_path / name, TEXTS, hidden_size=16, num_heads=2, seed=seed)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [AutoModelForMaskedLM.from_pretrained(tmp_path / name).state_dict() for name in "abc"]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_a_language_model_without_words_is_refused(texts, tmp_path):
    with pytest.raises(ValueError, match="The texts hold no word"):
        write_language_model(tmp_path / "model", texts)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["foo"], "Cannot place 'foo': the demo accepts only options"),
        (["foo", "bar"], "Cannot place 'foo': the demo accepts only options"),
        (["--seeds", "0", "--learning_rate", "1e-3", "foo"], "dataset is 'foo', but the demo sets it"),
        (["--baseline", "false"], "baseline is False, but the demo sets it"),
        (["--no_baseline"], "baseline is False, but the demo sets it"),
        (["--tau-a", "1"], r"tau_a is 1\.0, but the demo sets it"),
        (["--data_dir", "kitchen"], "data_dir is 'kitchen', but the demo sets it"),
        (["--soft_labels", "a.parquet"], r"soft_labels is \['a.parquet'\], but the demo sets it"),
        (["--evaluation_split=validation"], "evaluation_split is 'validation', but the demo sets it"),
        (["--distill_weight", "0"], "distill_weight is 0, but the demo shows what a teacher adds"),
        (["--model_name_or_path", "m"], "model_name_or_path is given with model_options"),  # of the demo's student
    ],
)
def test_what_the_demo_cannot_use_is_refused_before_its_first_stage(options, message, tmp_path):
    result = run_command("demo", *options, folder=tmp_path)
    assert result.returncode == 1
    assert re.match(f"error: {message}", result.stderr)
    assert (result.stderr.count("\n"), list(tmp_path.iterdir())) == (1, [])


def test_the_demo_passes_on_other_options_of_its_students():
    options = ["--num_train_epochs", "2", "--learning-rate=1e-3", "--cache_dir", "cache"]
    args, student_options = demo.parse(["--seeds", "1", "0", *options])
    assert args.seeds == [1, 0]
    assert student_options == ["--num_train_epochs", "2", "--learning_rate=1e-3", "--cache_dir", "cache"]


@pytest.mark.slow
def test_the_demo_runs_from_nothing_to_its_picture(tmp_path):
    pytest.importorskip("spacy")
    command = [sys.executable, "-m", "avt_distill", "demo", "--output_dir", tmp_path / "run"]
    command = [*map(str, command), "--seeds", "1", "0", "--num_train_epochs", "2"]

    def run() -> str:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HOME": str(tmp_path / "cache")}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    printed = run()
    shown = ("teacher", "bigram", "baseline_seed1", "distilled_seed1", "over rows", "true next action:", "Total time")
    for part in (*shown, "student + reader, log-linear", "Distilled, without and with a reader: top-1"):
        assert part in printed
    comparison = json.loads((tmp_path / "run" / "students" / "comparison.json").read_text())
    assert (comparison["split"], comparison["seeds"]) == ("test", [1, 0])
    assert (tmp_path / "run" / "strip.png").stat().st_size > 10_000
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}
    # A language model before and after recipes, a teacher and four of folds; two students of each seed; for the first
    # seed also two of each inner fold, and one with its reader.
    assert len(written) == 18
    again = run()
    assert again.count(" exists already") == 6
    kept = [path for path in written if "reader_seed1" not in path.parts]
    assert all(path.stat().st_mtime_ns == written[path] for path in kept)
