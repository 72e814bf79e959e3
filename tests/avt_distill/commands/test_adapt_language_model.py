"""The command line of adaptation: from recipes to a folder that the Auto classes load, with interruptions."""

import json
import random
import shutil

import pytest
import torch
from helpers.commands import avt_distill
from helpers.processes import command
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

HEADED = {"tiny_encoder": AutoModelForMaskedLM, "tiny_decoder": AutoModelForCausalLM}
ROUTINES = [
    "preheat oven, crack egg, whisk egg, add milk",
    "wash carrot, peel carrot, cut carrot, boil carrot",
    "melt butter, mix butter, add flour, knead dough",
    "heat oil, fry onion, add pepper, stir onion",
]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """120 recipes, each two to five routines in a row."""
    path, rng = tmp_path_factory.mktemp("recipes") / "recipes.jsonl", random.Random(0)
    with path.open("w") as file:
        for number in range(120):
            texts = ", ".join(rng.choices(ROUTINES, k=rng.randint(2, 5))).split(", ")
            file.write(json.dumps({"id": number, "title": "", "actions": [text.split() for text in texts]}) + "\n")
    return path


@pytest.fixture
def options(recipes, tmp_path):
    """Returns a function that writes the options of a run to a file, as a user would, and returns its path."""

    def write(model, **settings):
        fields = {
            "model_name_or_path": model,
            "recipes": recipes,
            "output_dir": tmp_path / "out",
            "block_length": 32,
            "held_out_fraction": 0.1,
            "use_cpu": True,
            "disable_tqdm": True,
            "learning_rate": "5e-3",
            **settings,
        }
        path = tmp_path / "run.yaml"
        path.write_text("".join(f"{name}: {json.dumps(value, default=str)}\n" for name, value in fields.items()))
        return str(path)

    return write


def adapt(*arguments):
    avt_distill("adapt_language_model", *arguments)


def result(folder) -> dict:
    return json.loads((folder / "adaptation.json").read_text())


@pytest.mark.parametrize("folder", HEADED)
def test_a_few_steps_lower_perplexity(folder, options, tmp_path, request, capsys):
    model = request.getfixturevalue(folder)
    adapt(options(model), "--max_steps", "25", "--save_strategy", "no")
    found = result(tmp_path / "out")
    assert found["after"]["perplexity"] < 0.5 * found["before"]["perplexity"]
    assert found["after"]["predicted_tokens"] == found["before"]["predicted_tokens"] > 20
    assert (found["head_was_new"], found["before_is_of"]) == (False, "the checkpoint")
    assert sum(found["recipes"][name] for name in ("train", "held_out", "repeated")) == 120
    assert found["training"]["steps"] == 25
    assert found["training"]["tokens"] > 25 * 12 * 16
    assert found["arguments"]["learning_rate"] == 5e-3
    assert f"perplexity after:  {found['after']['perplexity']:.2f}" in capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    adapted = HEADED[folder].from_pretrained(tmp_path / "out")
    assert adapted.config.vocab_size >= len(tokenizer)
    backbone = AutoModel.from_pretrained(tmp_path / "out")
    ids = tokenizer("preheat oven, crack", return_tensors="pt")["input_ids"]
    expected = adapted.eval().base_model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(backbone.eval()(input_ids=ids).last_hidden_state, expected)


def test_a_new_head_is_trained_first_where_asked(options, tmp_path, tiny_encoder):
    headless = tmp_path / "headless"
    AutoModel.from_pretrained(tiny_encoder).save_pretrained(headless)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(headless)
    settings = ["--max_steps", "2", "--save_strategy", "no", "--bf16", "true"]
    adapt(options(headless), *settings, "--output_dir", tmp_path / "random")
    avt_distill(
        "adapt_language_model",
        options(headless),
        *settings,
        "--output_dir",
        tmp_path / "trained",
        "--head_warmup_steps",
        "30",
    )
    random_head, trained = result(tmp_path / "random"), result(tmp_path / "trained")
    assert random_head["head_was_new"] is trained["head_was_new"] is True
    assert random_head["before_is_of"] == "a random head on the checkpoint"
    assert trained["before_is_of"] == "a head trained for 30 steps on the unchanged checkpoint"
    assert trained["before"]["perplexity"] < 0.8 * random_head["before"]["perplexity"]
    assert "cls.predictions.bias" in trained["new_weights"]
    assert trained["training"]["steps"] == 2


def test_interrupted_runs_end_where_uninterrupted_ones_do(options, tmp_path, tiny_decoder):
    still = tmp_path / "still"
    model = AutoModelForCausalLM.from_pretrained(tiny_decoder, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model.save_pretrained(still)
    AutoTokenizer.from_pretrained(tiny_decoder).save_pretrained(still)
    path = options(still, lr_scheduler_type="constant", save_steps=4)
    resume = ["--resume_from_checkpoint", "true"]
    adapt(path, "--max_steps", "8")
    avt_distill(
        "adapt_language_model", path, "--max_steps", "4", "--output_dir", tmp_path / "two", *resume
    )  # there is nothing to resume, so it starts
    before = result(tmp_path / "two")["before"]
    adapt(path, "--max_steps", "8", "--output_dir", tmp_path / "two", *resume)
    found = result(tmp_path / "two")
    assert (found["training"]["continued_from_step"], found["training"]["steps"]) == (4, 8)
    assert found["before"] == before == result(tmp_path / "out")["before"]
    assert found["after"]["loss"] == pytest.approx(result(tmp_path / "out")["after"]["loss"], abs=1e-5)
    assert found["training"]["tokens"] == result(tmp_path / "out")["training"]["tokens"]

    with pytest.raises(SystemExit, match="is not empty: give another output_dir, or --resume_from_checkpoint true"):
        adapt(path, "--max_steps", "8")
    with pytest.raises(SystemExit, match="began with block_length=32, not 16"):
        adapt(path, "--block_length", "16", *resume)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("accumulated", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("step", [3, 6])
def test_masks_are_the_same_after_an_interruption(options, tmp_path, tiny_encoder, step, accumulated, workers):
    """Covers masks and dropout, interrupted within or at the end of an epoch; epochs have 4 or 2 steps."""
    steps = {"max_steps": 7, "save_steps": 1, "save_total_limit": 9, "per_device_train_batch_size": 36}
    spread = {"gradient_accumulation_steps": accumulated, "dataloader_num_workers": workers}
    path = options(tiny_encoder, **steps, **spread)
    adapt(path)
    killed = shutil.copytree(tmp_path / "out", tmp_path / "killed")
    for later in range(step + 1, 8):
        shutil.rmtree(killed / f"checkpoint-{later}")
    unfinished = {name: value for name, value in result(killed).items() if name != "after"}
    (killed / "adaptation.json").write_text(json.dumps(unfinished))
    adapt(path, "--output_dir", killed, "--resume_from_checkpoint", "true")
    assert result(killed)["training"]["continued_from_step"] == step
    undisturbed, resumed = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", killed))
    assert all(resumed[name].equal(weight) for name, weight in undisturbed.items())


def test_a_run_of_changed_recipes_is_not_continued(options, recipes, tmp_path, tiny_decoder):
    changed = tmp_path / "recipes.jsonl"
    changed.write_text(recipes.read_text())
    path = options(tiny_decoder, recipes=changed, save_steps=2, max_steps=2)
    adapt(path)
    resume = ["--resume_from_checkpoint", "true", "--max_steps", "4"]
    first, *others = recipes.read_text().splitlines()
    changed.write_text("\n".join([first.replace("egg", "oil").replace("carrot", "onion"), *others]) + "\n")
    with pytest.raises(SystemExit, match=r"began with recipes_content\.recipes=\w+, not \w+: continue with that"):
        adapt(path, *resume)
    changed.write_text(recipes.read_text())
    adapt(path, *resume)


@pytest.mark.parametrize("save_steps", [100, 2], ids=["without checkpoints", "with checkpoints"])
def test_a_finished_model_is_not_replaced_by_that_of_other_settings(
    options, recipes, tmp_path, tiny_decoder, save_steps, caplog
):
    changed = tmp_path / "recipes.jsonl"
    changed.write_text(recipes.read_text())
    path = options(tiny_decoder, recipes=changed, save_steps=save_steps, max_steps=2, save_strategy="steps")
    resume = ["--resume_from_checkpoint", "true"]
    adapt(path, *resume)
    if save_steps == 100:
        shutil.rmtree(tmp_path / "out" / "checkpoint-2")
    files = ["adaptation.json", "model.safetensors"]
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in files}
    asked = {"learning_rate": "1e-3", "block_length": "16", "seed": "1"}
    asked |= {"num_train_epochs": "9", "max_steps": "1"} if save_steps == 100 else {}
    for option, value in asked.items():
        with pytest.raises(SystemExit, match=f"began with {option}=.*: continue with that, or give another output_dir"):
            adapt(path, *resume, f"--{option}", value)
    changed.write_text("\n".join(recipes.read_text().splitlines()[1:]) + "\n")
    with pytest.raises(SystemExit, match=r"began with recipes_content\.recipes="):
        adapt(path, *resume)
    changed.write_text(recipes.read_text())
    adapt(path, *resume)
    assert "holds the finished model of a run with these settings, which is kept" in caplog.text
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in files} == before


def test_a_resumed_run_is_recorded_after_its_first_checkpoint_was_rotated_out(options, tmp_path, tiny_decoder):
    path = options(tiny_decoder, save_steps=2, save_total_limit=1)
    adapt(path, "--max_steps", "2")
    adapt(path, "--max_steps", "6", "--resume_from_checkpoint", "true")
    assert not (tmp_path / "out" / "checkpoint-2").exists()
    training = result(tmp_path / "out")["training"]
    assert (training["continued_from_step"], training["steps"]) == (2, 6)


def test_errors_are_one_line(options, tmp_path, tiny_encoder):
    path = options(tiny_encoder)
    for arguments in (
        ["--recipes", "missing.jsonl"],
        ["--model_name_or_path", tmp_path / "missing"],
        ["--block_lenth", "32"],
        ["--block_length", "512"],
    ):
        with pytest.raises(SystemExit, match=r"^error: ") as stop:
            adapt(path, *arguments)
        assert "\n" not in stop.value.code


@pytest.mark.slow
def test_two_processes_train_as_one(options, tmp_path, tiny_decoder, fork_server):
    still = tmp_path / "still"
    model = AutoModelForCausalLM.from_pretrained(tiny_decoder, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model.save_pretrained(still)
    AutoTokenizer.from_pretrained(tiny_decoder).save_pretrained(still)
    path = options(still, max_steps=6, save_strategy="no", optim="sgd", learning_rate=0.5, max_grad_norm=0)
    adapt(path, "--per_device_train_batch_size", "8")
    given = [path, "--per_device_train_batch_size", "4", "--output_dir", tmp_path / "two"]
    fork_server.run_several(command("adapt_language_model", *given), tmp_path)
    alone, two = result(tmp_path / "out"), result(tmp_path / "two")
    assert two["arguments"]["world_size"] == 2
    assert two["before"]["loss"] == pytest.approx(alone["before"]["loss"], abs=1e-5)
    assert two["before"]["predicted_tokens"] == alone["before"]["predicted_tokens"]
    assert two["after"]["loss"] == pytest.approx(alone["after"]["loss"], abs=1e-3)
