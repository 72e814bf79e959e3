"""Training stops where numbers are not finite, and its checkpoints can be resumed: with every process's part."""

import pytest
import torch
from helpers.processes import WITH_THE_PROJECT
from safetensors.torch import load_file
from transformers import TrainingArguments

from avt_distill.runs.resuming import last_whole_checkpoint
from avt_distill.runs.training import ResumableTrainer


class Scale(torch.nn.Module):
    """Its loss is the mean of the inputs times a weight that begins with 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return {"loss": (self.weight * x).mean()}


def train(folder, values, **options):
    options = {"learning_rate": 0.1, "optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0, **options}
    options |= {"max_steps": len(values), "save_steps": 1, "per_device_train_batch_size": 1, "disable_tqdm": True}
    args = TrainingArguments(folder, use_cpu=True, train_sampling_strategy="sequential", report_to=[], **options)
    trainer = ResumableTrainer(Scale(), args, train_dataset=[{"x": torch.tensor(value)} for value in values])
    trainer.resume()
    return trainer.model.weight.item()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_at_its_step(tmp_path, value):
    for _ in range(2):  # the rerun resumes before that step, and stops there again
        with pytest.raises(
            ValueError, match=rf"The loss of step 3 is {value}: training stops .* learning_rate than 0\.1"
        ):
            train(tmp_path, [1.0, 2.0, value, 1.0])
        assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
        assert not (tmp_path / "checkpoint-3").exists()
    assert load_file(tmp_path / "checkpoint-2" / "model.safetensors")["weight"].isfinite().all()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="After step 2, weight is not finite: training stops"):
        train(tmp_path, [1e-12, 1e30, 1.0], learning_rate=1e10)
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")


TWO_PROCESSES = """
import os, sys, torch
from avt_distill.runs.training import ResumableTrainer
from transformers import TrainingArguments, set_seed

class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(50))
    def forward(self, x):
        return {"loss": (torch.nn.functional.dropout(self.weight * x) ** 2).mean()}

def killed(content, path, save=torch.save):
    if DYING and str(path).endswith("checkpoint-4/rng_state_1.pth"):
        os._exit(9)
    save(content, path)

torch.save = killed
set_seed(1)
args = TrainingArguments(FOLDER, use_cpu=True, max_steps=6, save_steps=2, save_total_limit=1, report_to=[],
    learning_rate=0.1, per_device_train_batch_size=1, disable_tqdm=True)
trainer = ResumableTrainer(Noisy(), args, train_dataset=[{"x": torch.tensor(float(n))} for n in range(12)])
trainer.resume()
trainer.save_model()
"""


@pytest.mark.slow
def test_a_kill_between_the_parts_of_two_processes_ends_with_the_same_weights(tmp_path, fork_server):
    def run(folder, dying):
        settings = f"FOLDER, DYING = {str(tmp_path / folder)!r}, {dying}\n"
        options = {"ACCELERATE_USE_CPU": "true"}
        fork_server.run_several(WITH_THE_PROJECT + settings + TWO_PROCESSES, tmp_path, **options)

    run("undisturbed", dying=False)
    with pytest.raises(AssertionError):
        run("killed", dying=True)
    assert last_whole_checkpoint(tmp_path / "killed", 2) == str(tmp_path / "killed" / "checkpoint-2")
    assert not (tmp_path / "killed" / "checkpoint-4" / "trainer_state.json").exists()
    run("killed", dying=False)
    weights = [load_file(tmp_path / run / "model.safetensors")["weight"] for run in ("undisturbed", "killed")]
    assert weights[0].equal(weights[1])
