"""The distillation trainer: its loss, steps that do not depend on how they are split, logs and checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.processes import WITH_THE_PROJECT
from helpers.tiny_models import tiny_config, tiny_encoder_config, tiny_model
from transformers import set_seed
from transformers.trainer_pt_utils import LabelSmoother

from avt_distill.losses import distillation_loss
from avt_distill.student.trainer import COMPONENTS, DistillationArguments, DistillationTrainer, SoftLabelCollator
from avt_distill.teacher.soft_labels import SoftLabelTable
from modeling_avt import AVTForAnticipation

ROWS = 24
METADATA = {"label_space_hash": "0", "model": "counts", "history_cutoff": "started", "tau_a": "1.0"}


def stack(rows: list[dict]) -> dict:
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "uid"}
    return {**batch, "uid": [row["uid"] for row in rows]}


def random_rows(num_rows: int = ROWS) -> list[dict]:
    """Rows of 4 frames of 12 features; some labels, frames and past actions are missing."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for index in range(num_rows):
        mask = torch.ones(4, dtype=torch.bool)
        mask[: index % 3] = False
        past = torch.randint(0, 5, (4,), generator=generator)
        past[: 1 + index % 4] = -100
        rows.append(
            {
                "video_features": torch.randn(4, 12, generator=generator),
                "frame_mask": mask,
                "labels": torch.tensor(-100 if index % 7 == 3 else index % 5),
                "verb_labels": torch.tensor(-100),
                "noun_labels": torch.tensor(-100),
                "past_labels": past,
                "uid": str(index),
            }
        )
    return rows


def soft_labels(num_rows: int = ROWS) -> SoftLabelTable:
    logits = np.random.default_rng(0).normal(size=(num_rows, 5)).astype(np.float32)
    return SoftLabelTable([str(index) for index in range(num_rows)], 3 * logits, METADATA)


def trainer(folder, model=None, *, table=None, missing="raise", rows=None, **options) -> DistillationTrainer:
    defaults = {"output_dir": str(folder), "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    defaults |= {"logging_steps": 1, "learning_rate": 0.05, "optim": "sgd", "lr_scheduler_type": "constant"}
    defaults |= {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 5, "max_steps": 3, "max_grad_norm": 0}
    args = DistillationArguments(**{**defaults, "distill_weight": 2.0, "distill_temperature": 3.0, **options})
    collator = stack if table is None else SoftLabelCollator(stack, table, missing=missing)
    rows = random_rows() if rows is None else rows
    model = tiny_model(tiny_config(head_dropout=0.0, classifier_dropout=0.0)) if model is None else model
    return DistillationTrainer(model, args, data_collator=collator, train_dataset=rows, eval_dataset=rows)


def weights_after(training: DistillationTrainer, checkpoint: str | None = None) -> torch.Tensor:
    set_seed(1)
    training.train(resume_from_checkpoint=checkpoint)
    return torch.cat([weight.detach().flatten() for weight in training.model.parameters()])


def test_the_loss_is_avts_own_and_the_weighted_divergence(tmp_path):
    training = trainer(tmp_path, table=soft_labels())
    batch = training.data_collator(random_rows(6))
    loss, outputs = training.compute_loss(training.model, batch, return_outputs=True)
    divergence = distillation_loss(outputs.logits, batch["teacher_logits"], 3.0)
    torch.testing.assert_close(loss, outputs.loss + 2.0 * divergence)


def test_no_weight_is_the_student_alone(tmp_path):
    with_table = trainer(tmp_path / "a", table=soft_labels(), distill_weight=0.0)
    torch.testing.assert_close(weights_after(with_table), weights_after(trainer(tmp_path / "b")))


def test_a_step_does_not_depend_on_how_it_is_accumulated(tmp_path):
    """Batches differ in their numbers of labelled examples and frames, so that averaging batch means would be wrong."""
    whole = weights_after(trainer(tmp_path / "a", table=soft_labels()))
    halves = trainer(tmp_path / "b", table=soft_labels(), per_device_train_batch_size=4, gradient_accumulation_steps=2)
    torch.testing.assert_close(weights_after(halves), whole, rtol=1e-5, atol=1e-6)


def test_labels_are_smoothed_as_transformers_does_in_training_alone(tmp_path):
    training = trainer(tmp_path, distill_weight=0.0, label_smoothing_factor=0.3)
    batch = stack(random_rows())
    loss, outputs = training.compute_loss(training.model.train(), batch, return_outputs=True)
    smoothed = LabelSmoother(epsilon=0.3)({"logits": outputs.logits}, batch["labels"])
    torch.testing.assert_close(loss, outputs.loss - outputs.action_loss + smoothed)
    assert (loss - outputs.loss).abs() > 1e-3
    plain, outputs = training.compute_loss(training.model.eval(), batch, return_outputs=True)
    torch.testing.assert_close(plain, outputs.loss)
    metrics = training.evaluate()
    assert metrics["eval_action_loss"] == pytest.approx(outputs.action_loss.item(), rel=1e-5)
    training.train()
    assert training.state.log_history[0]["action_loss"] > 0


def test_a_step_of_smoothed_labels_does_not_depend_on_how_it_is_accumulated(tmp_path):
    options = {"distill_weight": 0.0, "label_smoothing_factor": 0.3}
    whole = weights_after(trainer(tmp_path / "a", **options))
    split = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    torch.testing.assert_close(weights_after(trainer(tmp_path / "b", **options, **split)), whole, rtol=1e-5, atol=1e-6)
    plain = weights_after(trainer(tmp_path / "c", distill_weight=0.0))
    assert (plain - whole).abs().max() > 1e-4


def test_the_student_moves_towards_its_teacher(tmp_path):
    table = soft_labels()
    training = trainer(tmp_path, table=table, max_steps=60, learning_rate=0.1)
    before = training.evaluate()["eval_distillation_loss"]
    training = trainer(tmp_path, table=table, max_steps=60, learning_rate=0.1)
    training.train()
    assert training.evaluate()["eval_distillation_loss"] < 0.8 * before


def test_rows_without_a_teacher_raise_or_are_left_out_and_counted(tmp_path):
    few = soft_labels(10)
    with pytest.raises(ValueError, match="lack 3 of 4 uids, '10' first"):
        trainer(tmp_path, table=few).data_collator([random_rows()[index] for index in (9, 10, 11, 12)])
    training = trainer(tmp_path, table=few, missing="mask")
    rows = random_rows()
    known, both = training.data_collator(rows[:10]), training.data_collator(rows)
    assert training.data_collator.num_masked == 14
    losses = [training.losses(training._run(training.model.eval(), b), b)["distillation_loss"] for b in (known, both)]
    torch.testing.assert_close(*losses)


def test_every_component_is_logged_and_measured_over_the_data_set(tmp_path):
    """Batches of 5 of 24 rows have different numbers of labels, so that the mean of batch means would differ."""
    training = trainer(tmp_path, table=soft_labels())
    training.train()
    logged = training.state.log_history[0]
    assert {name for name in COMPONENTS if name in logged} == set(COMPONENTS) - {
        *("verb_loss", "noun_loss", "frame_loss", "future_loss")
    }
    metrics = training.evaluate()
    batch = training.data_collator(random_rows())
    with torch.no_grad():
        outputs = training._run(training.model.eval(), batch)
    for name, value in training.losses(outputs, batch).items():
        assert metrics[f"eval_{name}"] == pytest.approx(value.item(), rel=1e-5)
    expected = outputs.loss + 2.0 * training.losses(outputs, batch)["distillation_loss"]
    assert metrics["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_labels_that_a_model_does_not_need_may_be_left_out_of_batches(tmp_path):
    needed = ("video_features", "labels", "uid")
    alone = [{name: row[name] for name in needed} for row in random_rows()]
    unlabelled = {"frame_mask": torch.ones(4, dtype=torch.bool), "past_labels": torch.full((4,), -100)}
    with_all = [{**row, **unlabelled} for row in random_rows()]
    found, expected = (trainer(tmp_path, table=soft_labels(), rows=rows) for rows in (alone, with_all))
    torch.testing.assert_close(weights_after(found), weights_after(expected))
    metrics, others = found.evaluate(), expected.evaluate()
    for name in ("eval_loss", "eval_action_loss", "eval_feature_loss"):
        assert metrics[name] == pytest.approx(others[name], abs=1e-6)
    assert "eval_past_loss" not in metrics
    assert found._counts(stack(alone[:5])).tolist() == expected._counts(stack(with_all[:5])).tolist()


@pytest.mark.parametrize(("kind", "num_frames"), [("vit", 4), ("vjepa2", 10)])
def test_videos_without_a_mask_count_each_pair_of_moments(tmp_path, kind, num_frames):
    model = tiny_model(tiny_encoder_config(kind))
    frames = torch.zeros(2, num_frames, 3, 32, 32)
    batch = {"pixel_values_videos": frames, "labels": torch.tensor([1, 2])}
    model(**batch)  # it is of the model's form
    counts = dict(zip(COMPONENTS, trainer(tmp_path, model)._counts(batch).tolist(), strict=True))
    assert (counts["action_loss"], counts["feature_loss"], counts["past_loss"]) == (2, 6, 0)


def test_later_actions_are_learned_however_a_step_is_accumulated(tmp_path):
    """Rows have different numbers of future actions, so that batches differ in their counts."""
    rows = random_rows()
    for index, row in enumerate(rows):
        future = [index % 5, (index + 1) % 5 if index % 3 else -100, (index + 2) % 5 if index % 4 == 1 else -100]
        row["future_labels"] = torch.tensor([int(row["labels"]), *future[1:]])
    options = {"head_dropout": 0.0, "classifier_dropout": 0.0, "num_future_actions": 3, "future_loss_weight": 0.5}
    trained = []
    for folder, more in (("a", {}), ("b", {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2})):
        training = trainer(tmp_path / folder, tiny_model(tiny_config(**options)), rows=rows, **more)
        trained.append(weights_after(training))
        assert training.state.log_history[0]["future_loss"] > 0
    torch.testing.assert_close(trained[1], trained[0], rtol=1e-5, atol=1e-6)
    metrics = training.evaluate()
    with torch.no_grad():
        outputs = training._run(training.model.eval(), stack(rows))
    assert metrics["eval_future_loss"] == pytest.approx(outputs.future_loss.item(), rel=1e-5)
    assert metrics["eval_loss"] == pytest.approx(outputs.loss.item(), rel=1e-5)
    np.testing.assert_allclose(training.predict_future(rows), outputs.future_logits, rtol=1e-4, atol=1e-5)
    assert training.predict(rows).predictions.shape == (ROWS, 5)


def test_the_weight_warms_up(tmp_path):
    training = trainer(tmp_path, table=soft_labels(), distill_warmup_steps=4)
    weights = []
    for step in (0, 1, 4, 9):
        training.state.global_step = step
        weights.append(training.distill_weight)
    assert weights == [0.0, 0.5, 2.0, 2.0]


def test_a_checkpoint_holds_the_student_alone(tmp_path):
    training = trainer(tmp_path, table=soft_labels())
    training.train()
    training.save_model(tmp_path / "saved")
    loaded = AVTForAnticipation.from_pretrained(tmp_path / "saved")
    assert set(loaded.state_dict()) == set(tiny_model().state_dict())


def test_training_resumes_exactly_where_it_stopped(tmp_path):
    options = {"table": soft_labels(), "max_steps": 6, "optim": "adamw_torch", "learning_rate": 1e-3}
    undisturbed = weights_after(trainer(tmp_path / "a", tiny_model(), **options))
    weights_after(trainer(tmp_path / "b", tiny_model(), save_strategy="steps", save_steps=2, **options))
    resumed = trainer(tmp_path / "b", tiny_model(), **options)
    weights = weights_after(resumed, str(tmp_path / "b" / "checkpoint-4"))
    torch.testing.assert_close(weights, undisturbed, rtol=0, atol=0)


# The last batch of an epoch has 8, 5 or 4 rows: with 5 and 4, some or all rows of the second process are repeated.
NUM_ROWS = (24, 21, 20)


@pytest.fixture(scope="module")
def two_processes(fork_server, tmp_path_factory) -> Path:
    """The folder in which two processes left weights and losses of each of `NUM_ROWS`."""
    folder = tmp_path_factory.mktemp("two_processes")
    fork_server.run_several(TWO_PROCESSES, folder)
    return folder


@pytest.mark.parametrize("num_rows", NUM_ROWS)
def test_two_processes_train_and_measure_as_one(two_processes, tmp_path, num_rows):
    saved = torch.load(two_processes / f"{num_rows}.pt", weights_only=True)
    options = {"rows": random_rows(num_rows), "max_steps": 5}
    smoothed = trainer(tmp_path / "smoothed", **options, distill_weight=0.0, label_smoothing_factor=0.3)
    torch.testing.assert_close(saved["smoothed"], weights_after(smoothed), rtol=1e-5, atol=1e-6)
    alone = trainer(tmp_path, table=soft_labels(), **options)
    torch.testing.assert_close(saved["weights"], weights_after(alone), rtol=1e-5, atol=1e-6)
    metrics = alone.evaluate()
    for name, value in saved["metrics"].items():
        assert value == pytest.approx(metrics[name], rel=1e-5), name


def test_two_processes_resume_before_the_last_batch_of_an_epoch_as_if_undisturbed(two_processes):
    """Accelerate's data loaders that skip batches do not report how many rows of the last batch are not repeated."""
    undisturbed, resumed = (
        torch.load(two_processes / name, weights_only=True)["weights"] for name in ("20.pt", "20_resumed.pt")
    )
    torch.testing.assert_close(resumed, undisturbed, rtol=0, atol=0)


TWO_PROCESSES = f"""{WITH_THE_PROJECT}
sys.path.append({str(Path(__file__).parent)!r})
import torch
from test_trainer import random_rows, soft_labels, trainer, weights_after

for num_rows in {NUM_ROWS}:
    folder, rows = f"of_{{num_rows}}", random_rows(num_rows)
    training = trainer(folder, table=soft_labels(), rows=rows, max_steps=5, per_device_train_batch_size=4)
    weights = weights_after(training)
    options = {{"rows": rows, "max_steps": 5, "per_device_train_batch_size": 4, "distill_weight": 0.0}}
    smoothed = weights_after(trainer(f"smoothed_{{num_rows}}", label_smoothing_factor=0.3, **options))
    metrics = {{name: value for name, value in training.evaluate().items() if name.endswith("loss")}}
    if training.args.process_index == 0:
        torch.save({{"weights": weights, "metrics": metrics, "smoothed": smoothed}}, f"{{num_rows}}.pt")
options = {{"table": soft_labels(), "rows": random_rows(20), "per_device_train_batch_size": 4}}
weights_after(trainer("interrupted", **options, max_steps=2, save_strategy="steps", save_steps=2))
weights = weights_after(trainer("interrupted", **options, max_steps=5), "interrupted/checkpoint-2")
if training.args.process_index == 0:
    torch.save({{"weights": weights}}, "20_resumed.pt")
training.accelerator.wait_for_everyone()
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distill_weight": -1.0}, "distill_weight is -1.0"),
        ({"distill_temperature": 0.0}, "distill_temperature is 0.0"),
        ({"distill_reduction": "sum"}, "distill_reduction is 'sum'"),
        ({"distill_warmup_steps": -1}, "distill_warmup_steps is -1"),
        ({"label_smoothing_factor": 1.0}, "label_smoothing_factor is 1.0: give a finite number, 0 or more and below 1"),
        ({"label_smoothing_factor": -0.1}, "label_smoothing_factor is -0.1"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **options)
