"""Training stops where numbers are not finite, and its checkpoints can be resumed: with every process's part."""

import pytest
import torch
from helpers.processes import WITH_THE_PROJECT
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from avt_distill.runs.resuming import last_whole_checkpoint
from avt_distill.runs.training import ResumableTrainer


class Scale(torch.nn.Module):
    """Its loss is the mean of the inputs times a weight that begins with 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels=None):
        return {"loss": (self.weight * x).mean()}


class Kill(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def train(folder, values, **options):
    """Returns the weight after one step for each value, of fewer where `num_steps` says so."""
    return trained(folder, values, **options).model.weight.item()


def train_and_log(folder, values, **options) -> list[dict]:
    return trained(folder, values, **options).state.log_history


def trained(folder, values, *, num_steps=None, patience=None, dies_at=None, **options) -> ResumableTrainer:
    options = {"learning_rate": 0.1, "optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0, **options}
    options |= {"max_steps": num_steps or len(values), "save_steps": 1, "per_device_train_batch_size": 1}
    args = TrainingArguments(
        folder, use_cpu=True, train_sampling_strategy="sequential", report_to=[], disable_tqdm=True, **options
    )
    rows = [{"x": torch.tensor(value), "labels": torch.tensor(0)} for value in values]
    callbacks = [] if patience is None else [EarlyStoppingCallback(patience)]
    callbacks += [] if dies_at is None else [Kill(dies_at)]
    trainer = ResumableTrainer(Scale(), args, train_dataset=rows, eval_dataset=rows[:1], callbacks=callbacks)
    trainer.resume()
    return trainer


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


def test_a_training_that_was_killed_after_its_last_step_takes_no_further_one(tmp_path):
    values = [1.0, 2.0, 3.0]
    weight = train(tmp_path, values, num_steps=2)
    assert train(tmp_path, values, num_steps=2) == weight
    assert not (tmp_path / "checkpoint-3").exists()
    assert train(tmp_path, values, num_steps=3) == pytest.approx(1 - 0.1 * 6)  # a longer run goes on


def test_a_resumed_run_logs_what_an_undisturbed_one_logs(tmp_path):
    """Losses are logged every three steps, and saved after each: what was trained before an interruption counts."""
    values, options = [1.0, 2.0, 3.0, 4.0], {"logging_steps": 3}
    times = ("train_runtime", "train_samples_per_second", "train_steps_per_second")

    def logged(folder) -> list[dict]:
        log = train_and_log(folder, values, **options)
        return [{name: value for name, value in entry.items() if name not in times} for entry in log]

    expected = logged(tmp_path / "undisturbed")
    assert [entry["step"] for entry in expected if "loss" in entry] == [1, 2, 3, 4]
    assert expected[1]["loss"] == pytest.approx(2 * 0.9)
    assert "train_loss" not in expected[-1]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", values, dies_at=2, **options)
    assert logged(tmp_path / "killed") == expected


def test_patience_is_counted_on_after_an_interruption(tmp_path):
    """The weight falls with each step, and so does the loss, but the metric never improves."""
    options = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "num_steps": 9}
    options |= {"prediction_loss_only": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    values = [1.0] * 9
    assert train(tmp_path / "undisturbed", values, patience=3, **options) == pytest.approx(0.9)
    assert last_whole_checkpoint(tmp_path / "undisturbed").endswith("checkpoint-4")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", values, patience=3, dies_at=3, **options)
    for _ in range(2):
        assert train(tmp_path / "killed", values, patience=3, **options) == pytest.approx(0.9)
        assert last_whole_checkpoint(tmp_path / "killed").endswith("checkpoint-4")


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
