"""Training stops when numbers are not finite, and resumes from checkpoints with the same result."""

import pytest
import torch
from helpers.processes import WITH_THE_PROJECT
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments, ViTConfig, ViTModel

from avt_distill.runs.resuming import last_whole_checkpoint
from avt_distill.runs.training import ResumableTrainer


class Scale(torch.nn.Module):
    """A model whose loss is the mean of the inputs times a weight, initially 1."""

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
    """Returns the weight after one step per value, or after `num_steps` steps."""
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


def test_saved_weights_are_as_readable_as_any_other_file(tmp_path):
    trainer = trained(tmp_path, [1.0])
    trainer.save_model()
    for folder in (tmp_path, tmp_path / "checkpoint-1"):
        (folder / "plain").touch()
        assert (folder / "model.safetensors").stat().st_mode == (folder / "plain").stat().st_mode


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


def test_a_training_killed_after_its_last_step_takes_no_further_step(tmp_path):
    values = [1.0, 2.0, 3.0]
    weight = train(tmp_path, values, num_steps=2)
    assert train(tmp_path, values, num_steps=2) == weight
    assert not (tmp_path / "checkpoint-3").exists()
    assert train(tmp_path, values, num_steps=3) == pytest.approx(1 - 0.1 * 6)  # a longer run continues training


def test_a_resumed_run_logs_what_an_undisturbed_one_logs(tmp_path):
    """Losses are logged every three steps, and checkpoints saved at each step: steps before an interruption count."""
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


def test_patience_continues_to_count_after_an_interruption(tmp_path):
    """The loss decreases at each step, but since greater is better the metric never improves."""
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


def test_a_metric_that_is_not_measured_is_named_with_those_that_are(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "prediction_loss_only": True}
    with pytest.raises(ValueError, match=r"metric_for_best_model is 'foo', which is not measured: .*\['eval_loss', "):
        train(tmp_path, [1.0, 1.0], metric_for_best_model="foo", **options)


@pytest.mark.parametrize("load", ["best", "last"])
def test_weights_that_are_saved_under_other_names_are_loaded(tmp_path, load):
    """The weights of a ViT's encoder are saved so; `Trainer` would not load them."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = ViTModel(ViTConfig(image_size=8, patch_size=4, **sizes), add_pooling_layer=False)
    trainer = ResumableTrainer(model, TrainingArguments(tmp_path, use_cpu=True, report_to=[]))
    trainer.save_model(tmp_path / "checkpoint-1")
    assert load_file(tmp_path / "checkpoint-1" / "model.safetensors").keys() != model.state_dict().keys()
    saved = {name: weight.clone() for name, weight in model.state_dict().items()}
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    if load == "best":
        trainer.state.best_model_checkpoint = str(tmp_path / "checkpoint-1")
        trainer._load_best_model()
    else:
        trainer._load_from_checkpoint(str(tmp_path / "checkpoint-1"))
    assert all(weight.equal(saved[name]) for name, weight in model.state_dict().items())


class Dropped(torch.nn.Module):
    """A model whose loss depends on its input's number, noise and order, and on dropout."""

    def __init__(self, dropout: float):
        super().__init__()
        self.weight, self.dropout = torch.nn.Parameter(torch.ones(20)), dropout

    def forward(self, input_ids, noise, labels=None):
        weight = torch.nn.functional.dropout(self.weight, self.dropout, self.training)
        return {"loss": ((weight * noise.mean()) ** 2 * input_ids.float().mean()).mean()}


def padded_with_noise(rows: list[dict]) -> dict:
    return {"input_ids": pad_sequence([row["input_ids"] for row in rows]), "noise": torch.rand(len(rows))}


def train_on_noise(folder, *, dropout=0.0, dies_at=None, **options) -> torch.Tensor:
    """Returns the weights after 6 steps on 10 rows, which are 5 batches."""
    defaults = {"max_steps": 6, "save_steps": 1, "per_device_train_batch_size": 2, "learning_rate": 0.02, "seed": 1}
    defaults |= {"use_cpu": True, "report_to": [], "disable_tqdm": True, "logging_strategy": "no"}
    args = TrainingArguments(folder, **{**defaults, "prediction_loss_only": True, **options})
    rows = [{"input_ids": torch.full((1 + number % 3,), number)} for number in range(10)]
    callbacks, data = [] if dies_at is None else [Kill(dies_at)], {"train_dataset": rows, "eval_dataset": rows[:2]}
    trainer = ResumableTrainer(Dropped(dropout), args, data_collator=padded_with_noise, callbacks=callbacks, **data)
    trainer.resume()
    return trainer.model.weight.detach().clone()


def assert_kills_change_nothing(folder, *, dying_at=(1, 3, 5), **options):
    expected = train_on_noise(folder / "undisturbed", **options)
    for step in dying_at:
        with pytest.raises(KeyboardInterrupt):
            train_on_noise(folder / f"{step}", dies_at=step, **options)
        assert train_on_noise(folder / f"{step}", **options).equal(expected), step


WORKERS = {"dataloader_num_workers": 2}
PERSISTENT = {**WORKERS, "dataloader_persistent_workers": True}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_what_collators_draw_is_the_same_after_a_kill(tmp_path, accumulated, dropout):
    """Kills happen within the first epoch, at its end, and within the second; an epoch has 5 or 3 steps."""
    assert_kills_change_nothing(tmp_path, gradient_accumulation_steps=accumulated, dropout=dropout)


def test_what_workers_draw_is_the_same_after_a_kill(tmp_path):
    assert_kills_change_nothing(tmp_path, dying_at=[2], max_steps=3, **WORKERS)


@pytest.mark.slow
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("workers", [WORKERS, PERSISTENT], ids=["workers", "persistent"])
def test_kills_change_nothing_with_workers_dropout_and_evaluation(tmp_path, workers, accumulated):
    """Covers persistent workers too, which draw a seed from the generator of dropout only once."""
    options = {"eval_strategy": "steps", "eval_steps": 2, "gradient_accumulation_steps": accumulated}
    assert_kills_change_nothing(tmp_path, dropout=0.3, **options, **workers)


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance", "sequential"])
def test_the_order_of_rows_is_the_same_after_a_kill(tmp_path, strategy):
    assert_kills_change_nothing(tmp_path, dying_at=[3, 6], max_steps=7, train_sampling_strategy=strategy)


def test_workers_draw_what_one_process_draws(tmp_path):
    alone = train_on_noise(tmp_path / "alone", dropout=0.3)
    assert train_on_noise(tmp_path / "workers", dropout=0.3, **WORKERS).equal(alone)


def test_persistent_workers_draw_anew_in_each_epoch(tmp_path):
    alone = train_on_noise(tmp_path / "alone")
    assert train_on_noise(tmp_path / "workers", **PERSISTENT).equal(alone)


def test_draws_follow_the_seed(tmp_path):
    weights = [train_on_noise(tmp_path / f"{seed}", seed=seed, data_seed=0) for seed in (1, 2)]
    assert not weights[0].equal(weights[1])


def test_rows_without_numbers_are_refused(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([])

    args = TrainingArguments(tmp_path, use_cpu=True, report_to=[], max_steps=1)
    with pytest.raises(
        ValueError, match="train_dataset is a Stream, which has no length: give a data set with indexed rows"
    ):
        ResumableTrainer(Scale(), args, train_dataset=Stream()).train()


TWO_PROCESSES = """
import os, sys, torch
from avt_distill.runs.training import ResumableTrainer
from transformers import TrainingArguments, set_seed

class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(50))
    def forward(self, x):
        return {"loss": (torch.nn.functional.dropout(self.weight * x.mean()) ** 2).mean()}

def noisy(rows):
    return {"x": torch.stack([row["x"] for row in rows]) + torch.rand(len(rows))}

def killed(content, path, save=torch.save):
    if DYING and str(path).endswith("checkpoint-8/rng_state_1.pth"):
        os._exit(9)
    save(content, path)

torch.save = killed
set_seed(1)
args = TrainingArguments(FOLDER, use_cpu=True, max_steps=8, save_steps=2, save_total_limit=1, report_to=[],
    learning_rate=0.1, per_device_train_batch_size=1, disable_tqdm=True)
rows = [{"x": torch.tensor(float(n))} for n in range(8)]
trainer = ResumableTrainer(Noisy(), args, train_dataset=rows, data_collator=noisy)
trainer.resume()
trainer.save_model()
"""


@pytest.mark.slow
def test_a_kill_between_the_parts_of_two_processes_ends_with_the_same_weights(tmp_path, fork_server):
    """The kill is within the second epoch of 4 steps, whose order and random draws differ from the first."""

    def run(folder, dying):
        settings = f"FOLDER, DYING = {str(tmp_path / folder)!r}, {dying}\n"
        options = {"ACCELERATE_USE_CPU": "true"}
        fork_server.run_several(WITH_THE_PROJECT + settings + TWO_PROCESSES, tmp_path, **options)

    run("undisturbed", dying=False)
    with pytest.raises(AssertionError):
        run("killed", dying=True)
    assert last_whole_checkpoint(tmp_path / "killed", 2) == str(tmp_path / "killed" / "checkpoint-6")
    assert not (tmp_path / "killed" / "checkpoint-8" / "trainer_state.json").exists()
    run("killed", dying=False)
    weights = [load_file(tmp_path / run / "model.safetensors")["weight"] for run in ("undisturbed", "killed")]
    assert weights[0].equal(weights[1])
