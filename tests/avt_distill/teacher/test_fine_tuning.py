"""Fine-tuning learns, holds out whole videos, resumes after a kill, and refuses the folder of another teacher."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import TrainerCallback

from avt_distill.data.labels import LabelSpace
from avt_distill.teacher import fine_tuning
from avt_distill.teacher.fine_tuning import HistoryRule, TeacherArguments, fine_tuned_teacher, hold_out_videos
from avt_distill.teacher.language_models import load_text_backbone
from avt_distill.teacher.modeling_teacher import TextTeacher
from avt_distill.teacher.prediction import TeacherScorer

SPACE = LabelSpace(
    actions=("open_fridge", "take_egg", "cut_tomato", "wash_knife"),
    verbs=("open", "take", "cut", "wash"),
    nouns=("fridge", "egg", "tomato", "knife"),
    action_to_verb_noun=((0, 0), (1, 1), (2, 2), (3, 3)),
)
HISTORY = HistoryRule("ended", 0.5)


def kitchen_rows(num_videos: int = 8) -> pd.DataFrame:
    """Returns rows of videos in which each action determines the next: 0, 2, 1, 3, 0, ..."""
    following, rows = {0: 2, 2: 1, 1: 3, 3: 0}, []
    for video in range(num_videos):
        history = [video % 4]
        for index in range(6):
            action = following[history[-1]]
            rows.append((f"v{video}_{index}", f"v{video}", np.array(history), action, action, action))
            history = [*history, action]
    return pd.DataFrame(rows, columns=["uid", "video_id", "history", "action", "verb", "noun"])


def arguments(language_model: Path, folder: Path, **options) -> TeacherArguments:
    defaults = {
        "output_dir": str(folder),
        "model_name_or_path": str(language_model),
        "use_cpu": True,
        "disable_tqdm": True,
        "learning_rate": 3e-3,
        "held_out_fraction": 0.0,
        "num_train_epochs": 12,
        "save_strategy": "no",
        "history_length": 3,
    }
    return TeacherArguments(**{**defaults, **options})


def accuracy(scorer: TeacherScorer, rows: pd.DataFrame) -> float:
    return float((scorer.logits(list(rows["history"])).argmax(axis=1) == rows["action"]).mean())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_teacher_learns_what_follows_what(language_models, tmp_path, kind):
    weights = {"action": 0.8, "verb": 0.1, "noun": 0.1}
    args = arguments(language_models[kind], tmp_path, label_weights=weights, num_train_epochs=24)
    scorer = fine_tuned_teacher(kitchen_rows(), SPACE, args, HISTORY)
    assert accuracy(scorer, kitchen_rows()) == 1.0
    config = TextTeacher.from_pretrained(tmp_path).config
    assert config.pooling == {"bert": "first", "gpt2": "last"}[kind]
    assert (config.history_cutoff, config.tau_a, config.history_length) == ("ended", 0.5, 3)
    assert config.label_space_hash == SPACE.content_hash
    assert not (tmp_path / "checkpoints").exists()


def test_a_teachers_weights_are_as_readable_as_its_record(language_models, tmp_path):
    args = arguments(language_models["bert"], tmp_path, num_train_epochs=1)
    fine_tuned_teacher(kitchen_rows(), SPACE, args, HISTORY)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "training.json").stat().st_mode


def test_the_best_epoch_is_kept_and_training_stops_early(language_models, tmp_path):
    """With random targets nothing generalizes: the held-out loss is best early, and training stops soon after."""
    rows = kitchen_rows(12).assign(action=np.random.default_rng(0).integers(0, 4, 72))
    args = arguments(language_models["bert"], tmp_path, held_out_fraction=0.25, num_train_epochs=30, patience=2)
    fine_tuned_teacher(rows, SPACE, args, HISTORY)
    record = json.loads((tmp_path / "training.json").read_text())
    losses = [entry["eval_loss"] for entry in record["log"] if "eval_loss" in entry]
    assert record["best_metric"] == min(losses)
    assert record["epochs"] < 30
    assert record["num_held_out_rows"] == 18
    assert len(record["held_out_videos"]) == 3


def test_held_out_videos_are_whole_and_depend_on_the_seed_alone():
    rows = kitchen_rows()
    train, held_out = hold_out_videos(rows, 0.25, seed=0)
    assert set(held_out["video_id"]).isdisjoint(train["video_id"])
    assert len(set(held_out["video_id"])) == 2
    assert len(train) + len(held_out) == len(rows)
    pd.testing.assert_frame_equal(held_out, hold_out_videos(rows, 0.25, seed=0)[1])
    assert any(set(hold_out_videos(rows, 0.25, seed=s)[1]["video_id"]) != set(held_out["video_id"]) for s in range(5))
    with pytest.raises(ValueError, match="leaves none to train on"):
        hold_out_videos(rows, 0.99, seed=0)


def test_cameras_of_one_performance_are_held_out_together():
    videos = [f"P{n:02d}_{camera}_P{n:02d}_tea" for n in range(3, 9) for camera in ("cam01", "cam02", "stereo01")]
    for seed in range(5):
        train, held_out = hold_out_videos(pd.DataFrame({"video_id": videos}), 0.3, seed)
        assert len(held_out) == 6
        assert {video[:3] for video in train["video_id"]}.isdisjoint(video[:3] for video in held_out["video_id"])


class KilledError(Exception):
    pass


class KillAfter(TrainerCallback):
    def __init__(self, num_steps: int):
        self.num_steps = num_steps

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.num_steps:
            raise KilledError


def test_a_killed_training_resumes_where_it_stopped(language_models, tmp_path, monkeypatch):
    options = {"save_strategy": "steps", "save_steps": 3, "num_train_epochs": 3, "per_device_train_batch_size": 8}
    undisturbed = fine_tuned_teacher(
        kitchen_rows(), SPACE, arguments(language_models["bert"], tmp_path / "a", **options), HISTORY
    )
    trainer_class = fine_tuning.TeacherTrainer
    monkeypatch.setattr(
        fine_tuning,
        "TeacherTrainer",
        lambda *args, **kwargs: trainer_class(*args, **{**kwargs, "callbacks": [KillAfter(7)]}),
    )
    args = arguments(language_models["bert"], tmp_path / "b", **options)
    with pytest.raises(KilledError):
        fine_tuned_teacher(kitchen_rows(), SPACE, args, HISTORY)
    assert not (tmp_path / "b" / "training.json").exists()
    steps = []
    monkeypatch.setattr(
        fine_tuning, "TeacherTrainer", lambda *args, **kwargs: steps.append(trainer_class(*args, **kwargs)) or steps[-1]
    )
    resumed = fine_tuned_teacher(kitchen_rows(), SPACE, args, HISTORY)
    assert steps[0].state.global_step == 18
    histories = list(kitchen_rows()["history"])
    np.testing.assert_array_equal(resumed.logits(histories), undisturbed.logits(histories))


def test_a_finished_teacher_is_not_trained_again_and_another_one_is_refused(language_models, tmp_path, monkeypatch):
    args = arguments(language_models["bert"], tmp_path, num_train_epochs=1)
    first = fine_tuned_teacher(kitchen_rows(), SPACE, args, HISTORY)
    monkeypatch.setattr(fine_tuning, "TeacherTrainer", None)
    again = fine_tuned_teacher(kitchen_rows(), SPACE, args, HISTORY)
    histories = list(kitchen_rows()["history"])
    np.testing.assert_array_equal(first.logits(histories), again.logits(histories))
    with pytest.raises(ValueError, match=r"holds a teacher with learning_rate 0\.003, not 0\.001"):
        fine_tuned_teacher(kitchen_rows(), SPACE, replace(args, learning_rate=1e-3), HISTORY)
    with pytest.raises(ValueError, match="holds a teacher with trained_on"):
        fine_tuned_teacher(kitchen_rows(4), SPACE, args, HISTORY)
    with pytest.raises(ValueError, match="holds a teacher with history_cutoff 'ended', not 'started'"):
        fine_tuned_teacher(kitchen_rows(), SPACE, args, HistoryRule("started", 0.5))


def test_balanced_class_weights_are_inverse_frequencies(language_models, tmp_path, monkeypatch):
    rows = kitchen_rows().iloc[:40]
    rows.loc[rows.index[:10], "action"] = 0
    seen = []
    build = fine_tuning._model
    monkeypatch.setattr(fine_tuning, "_model", lambda *args: seen.append(build(*args)) or seen[-1])
    weights = []
    original = TextTeacher._loss
    monkeypatch.setattr(
        TextTeacher, "_loss", lambda self, *args: weights.append(self.class_weights) or original(self, *args)
    )
    args = arguments(language_models["bert"], tmp_path, class_weights="balanced", max_steps=1)
    fine_tuned_teacher(rows, SPACE, args, HISTORY)
    counts = np.bincount(rows["action"], minlength=4)
    np.testing.assert_allclose(weights[0].numpy(), 40 / (4 * counts), rtol=1e-6)


def test_classifiers_may_have_a_learning_rate_of_their_own(language_models, tmp_path, monkeypatch):
    optimizers = []
    create = fine_tuning.TeacherTrainer.create_optimizer
    monkeypatch.setattr(
        fine_tuning.TeacherTrainer, "create_optimizer", lambda self: optimizers.append(create(self)) or optimizers[-1]
    )
    options = {"learning_rate": 1e-3, "classifier_learning_rate": 2e-2, "max_steps": 1, "lr_scheduler_type": "constant"}
    options["newest_first"] = True
    scorer = fine_tuned_teacher(kitchen_rows(), SPACE, arguments(language_models["bert"], tmp_path, **options), HISTORY)
    assert scorer.model.config.newest_first
    rates = {}
    for group in optimizers[0].param_groups:
        for weight in group["params"]:
            rates.setdefault(group["lr"], []).append(tuple(weight.shape))
    assert sorted(rates) == [1e-3, 2e-2]
    assert sorted(rates[2e-2]) == [(4,), (4, 32)]
    assert sum(map(len, rates.values())) == len(list(scorer.model.parameters()))


def test_lora_is_merged_into_a_plain_teacher(language_models, tmp_path):
    pytest.importorskip("peft")
    args = arguments(language_models["bert"], tmp_path, lora_rank=4, held_out_fraction=0.25, num_train_epochs=3)
    scorer = fine_tuned_teacher(kitchen_rows(), SPACE, args, HISTORY)
    assert not any("lora" in name for name, _ in scorer.model.named_parameters())
    before = TextTeacher.from_pretrained(tmp_path)
    assert set(before.state_dict()) == set(scorer.model.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out_fraction": 1.0}, "held_out_fraction is 1.0"),
        ({"class_weights": "inverse"}, "class_weights is 'inverse'"),
    ],
)
def test_options_out_of_range_are_refused(language_models, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        arguments(language_models["bert"], tmp_path, **options)


@pytest.mark.parametrize(("kind", "positions"), [("bert", 512), ("roberta", 511), ("gpt2", 1024), ("llama", 2048)])
def test_more_tokens_than_the_language_model_reads_are_refused(language_models, tmp_path, kind, positions):
    options = {"num_train_epochs": 1, "max_length": positions + 1}
    with pytest.raises(
        ValueError, match=f"max_length is {positions + 1}: give 1 to {positions} tokens, which .*{kind}"
    ):
        fine_tuned_teacher(kitchen_rows(), SPACE, arguments(language_models[kind], tmp_path, **options), HISTORY)
    model = load_text_backbone(language_models[kind]).eval()
    with torch.inference_mode():  # as many as are accepted can be read
        assert model(input_ids=torch.full((1, positions), 7)).last_hidden_state.isfinite().all()


def test_long_histories_are_cut_to_what_a_small_language_model_reads(tiny_encoder, tmp_path):
    rows = kitchen_rows().assign(history=[np.arange(60) % 4] * 48)
    options = {"num_train_epochs": 1, "history_length": -1}
    scorer = fine_tuned_teacher(rows, SPACE, arguments(tiny_encoder, tmp_path, **options), HISTORY)
    assert TextTeacher.from_pretrained(tmp_path).config.max_length == 64
    assert np.isfinite(scorer.logits([[0] * 200])).all()


def test_rows_without_labels_are_refused(language_models, tmp_path):
    with pytest.raises(ValueError, match="No row has a label"):
        fine_tuned_teacher(
            kitchen_rows().assign(action=-100), SPACE, arguments(language_models["bert"], tmp_path), HISTORY
        )
