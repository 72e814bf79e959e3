"""No training of students, teachers or language models resumes from a damaged or foreign checkpoint."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import added, change_weights, cut_off, without
from helpers.commands import avt_distill
from safetensors.torch import load_file
from tiny_kitchen import write_kitchen
from tiny_language_models import write_language_model, write_tiny_decoder

COMMANDS = ("distill", "finetune_teacher", "adapt_language_model")
RECIPE = [["crack", "egg"], ["cut", "onion"], ["stir", "batter"]]
STEPS = ("--save_strategy", "steps", "--save_steps", 2, "--max_steps", 4, "--use_cpu", "true")


@dataclass
class Interrupted:
    """A run that was killed after its last step; `rerun` resumes it, and should reach the `expected` weights."""

    options: list
    folder: Path
    expected: dict[str, torch.Tensor]

    @property
    def checkpoint(self) -> Path:
        return max(self.folder.rglob("checkpoint-4"))

    def rerun(self):
        avt_distill(*self.options)

    def check_equal(self):
        weights = load_file(self.folder / "model.safetensors")
        assert weights.keys() == self.expected.keys()
        assert all(weights[name].equal(value) for name, value in self.expected.items())


def distillation(root: Path) -> tuple[list, Path, str]:
    """Returns a command, the folder of the model it trains, and the file that marks it as finished."""
    data, output = write_kitchen(root / "data"), root / "run"
    options = ["distill", data / "run.yaml", "--features", data / "features", "--distill_weight", 0]
    return [*options, "--output_dir", output, *STEPS], output / "baseline_seed42", "results.json"


def fine_tuning(root: Path) -> tuple[list, Path, str]:
    data, model = write_kitchen(root / "data"), write_language_model(root / "bert", "bert")
    options = ["finetune_teacher", "--dataset", data, "--cache_dir", root / "cache", "--model_name_or_path", model]
    return [*options, "--output_dir", root / "run", "--held_out_fraction", 0, *STEPS], root / "run", "training.json"


def adaptation(root: Path) -> tuple[list, Path, str]:
    write_tiny_decoder(model := root / "gpt2")  # a masked language model would draw other masks when it resumes
    lines = [json.dumps({"id": str(n), "title": "", "actions": RECIPE * (1 + n)}) for n in range(20)]
    (root / "recipes.jsonl").write_text("\n".join(lines) + "\n")
    options = ["adapt_language_model", "--model_name_or_path", model, "--recipes", root / "recipes.jsonl"]
    options += ["--block_length", 32, "--held_out_fraction", 0.2, "--disable_tqdm", "true", *STEPS]
    return [*options, "--output_dir", root / "run", "--resume_from_checkpoint", "true"], root / "run", ""


MADE = dict(zip(COMMANDS, (distillation, fine_tuning, adaptation), strict=True))


@pytest.fixture(scope="module", params=COMMANDS)
def begun(request, tmp_path_factory) -> tuple[list, Path, Path, str]:
    """A finished run with its checkpoints, which for teachers would normally be removed."""
    root = tmp_path_factory.mktemp(request.param)
    options, folder, finished = MADE[request.param](root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avt_distill.teacher.fine_tuning.shutil.rmtree", lambda *args, **kwargs: None)
        avt_distill(*options)
    return options, root, folder, finished


@pytest.fixture
def interrupted(begun, tmp_path) -> Interrupted:
    """The run in the state in which it was killed."""
    options, root, folder, finished = begun
    kept = shutil.copytree(root, tmp_path / "kept")
    expected = load_file(folder / "model.safetensors")
    if finished:
        (folder / finished).unlink()
    elif (folder / "adaptation.json").exists():
        record = json.loads((folder / "adaptation.json").read_text())
        (folder / "adaptation.json").write_text(json.dumps({k: v for k, v in record.items() if k != "after"}))
    yield Interrupted(options, folder, expected)
    shutil.rmtree(root)
    shutil.copytree(kept, root)


def test_a_checkpoint_that_lacks_weights_is_refused(interrupted):
    """`Trainer` would leave them at random values, with only a warning."""
    name = min(load_file(interrupted.checkpoint / "model.safetensors"))
    change_weights(interrupted.checkpoint, without(name))
    with pytest.raises(
        SystemExit, match=rf"checkpoint-4 is not a complete checkpoint of this model: it lacks 1 .*'{name}'"
    ):
        interrupted.rerun()


def test_a_checkpoint_of_another_model_is_refused(interrupted):
    weights = load_file(interrupted.checkpoint / "model.safetensors")
    change_weights(interrupted.checkpoint, added({"other.weight": torch.zeros(2)}))
    with pytest.raises(
        SystemExit, match=r"checkpoint-4 is not a complete checkpoint .* holds 1 others, such as 'other\.weight'"
    ):
        interrupted.rerun()
    name = min(weights)
    change_weights(interrupted.checkpoint, lambda _: {**weights, name: torch.zeros(3, 5)})
    with pytest.raises(SystemExit, match=r"checkpoint-4 is not a complete checkpoint .* holds weights of other sizes"):
        interrupted.rerun()


def test_a_truncated_checkpoint_is_skipped_and_the_result_is_the_same(interrupted, caplog):
    cut_off(interrupted.checkpoint)
    interrupted.rerun()
    assert "checkpoint-4 was cut off in model.safetensors" in caplog.text
    interrupted.check_equal()


class Code:
    """An object that runs a command when it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_state_that_would_run_code_is_refused_and_runs_none(interrupted, tmp_path, name):
    torch.save({"state": Code(f"touch {tmp_path / 'ran'}")}, interrupted.checkpoint / name)
    shutil.rmtree(interrupted.checkpoint.with_name("checkpoint-2"))
    with pytest.raises(
        SystemExit, match=rf"checkpoint-4 holds more than tensors and numbers in {name}, which could run"
    ):
        interrupted.rerun()
    assert not (tmp_path / "ran").exists()
    torch.load(interrupted.checkpoint / name, weights_only=False)
    assert (tmp_path / "ran").exists()  # unpickling does run it
