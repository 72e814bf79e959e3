"""`run_distill.py`, from annotations and soft labels to students and their comparison."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import avt_distill
from helpers.places import PROJECT
from helpers.processes import WITH_THE_PROJECT
from safetensors.torch import load_file
from tiny_kitchen import (
    ACTIONS,
    kitchen_builder,
    write_kitchen,
    write_soft_labels,
    write_tiny_vit,
    write_video_kitchen,
)
from transformers import AutoProcessor, TrainerCallback

import run_distill
from avt_distill.data.collator import FeatureCollator
from avt_distill.data.labels import LabelSpace
from avt_distill.data.loading import load_anticipation_dataset
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.features.stores import open_feature_store
from avt_distill.metrics import calibration_metrics
from avt_distill.student import training
from avt_distill.teacher.soft_labels import SoftLabelTable
from modeling_avt import AVTForAnticipation

BESIDE_STUDENTS = ("arguments.yaml", "scores_validation_probe.parquet")


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    """Annotations, features, a run's YAML file, and complete soft labels next to them."""
    folder = write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")
    write_soft_labels(folder.parent / "soft.parquet", folder)
    return folder


def options(kitchen: Path, output: Path, *more: str, soft_labels: Path | None = None) -> list[str]:
    named = {"features": kitchen / "features", "soft_labels": soft_labels or kitchen.parent / "soft.parquet"}
    named["output_dir"] = output
    return [str(kitchen / "run.yaml"), *(f"--{name}={value}" for name, value in named.items()), *more]


def baseline_options(kitchen: Path, output: Path, *more: str) -> list[str]:
    return options(kitchen, output, "--distill_weight=0", *more)


@pytest.fixture(scope="module")
def finished(kitchen, tmp_path_factory) -> Path:
    """The folder of a finished run of two seeds."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run_distill.main(options(kitchen, folder, "--seeds", "0", "1"))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def watched(monkeypatch, watch):
    """Calls `watch(trainer, args)` for each trainer before it trains."""
    make = training._trainer

    def made(args, data):
        trainer = make(args, data)
        watch(trainer, args)
        return trainer

    monkeypatch.setattr(training, "_trainer", made)


def test_a_run_leaves_students_their_scores_and_a_comparison(kitchen, finished):
    names = ["baseline_seed0", "baseline_seed1", "distilled_seed0", "distilled_seed1"]
    assert sorted(path.name for path in finished.iterdir()) == sorted([*names, *BESIDE_STUDENTS, "comparison.json"])
    builder = kitchen_builder(kitchen)
    rows = builder.rows("validation")
    batch = FeatureCollator(open_feature_store(kitchen / "features"))(rows.to_dict("records"))
    for name in names:
        model = AVTForAnticipation.from_pretrained(finished / name).eval()
        with torch.no_grad():
            logits = model(video_features=batch["video_features"], frame_mask=batch["frame_mask"]).logits
        table = ScoreTable.load(
            finished / name / "scores_validation.parquet", label_space=builder.annotations.label_space
        )
        assert table.uids == rows["uid"].tolist()
        np.testing.assert_array_equal(table.labels, rows["action"])
        np.testing.assert_allclose(table.scores, logits, rtol=1e-4, atol=1e-5)
        result = results(finished / name)
        assert (result["seed"], result["steps"], result["num_training_rows"]) == (int(name[-1]), 9, 36)
        top1 = 100 * (logits.argmax(-1) == batch["labels"]).float().mean().item()
        assert result["metrics"]["action_top1_accuracy"] == pytest.approx(top1)
        assert (result["teacher"] is None) == name.startswith("baseline")
        assert ("distillation_loss" in result["log"][0]) == name.startswith("distilled")
        assert result["num_rows_without_teacher"] == 0
    comparison = json.loads((finished / "comparison.json").read_text())
    assert (comparison["seeds"], comparison["num_rows"]) == ([0, 1], 12)
    top1 = next(row for row in comparison["rows"] if row["measure"] == "action top-1 accuracy")
    means = [
        np.mean([results(finished / f"{name}_seed{seed}")["metrics"]["action_top1_accuracy"] for seed in (0, 1)])
        for name in ("baseline", "distilled")
    ]
    assert [top1["baseline"], top1["candidate"]] == pytest.approx(means)
    for row in comparison["calibration"]:
        for side, name in (("baseline", "baseline"), ("candidate", "distilled")):
            tables = [ScoreTable.load(finished / f"{name}_seed{seed}" / "scores_validation.parquet") for seed in (0, 1)]
            of_seeds = [calibration_metrics(table.scores, table.labels) for table in tables]
            measured = [metrics[row["measure"].lower().replace(" ", "_")] for metrics in of_seeds]
            assert row[f"{side}_by_seed"] == pytest.approx(measured)
    assert len(comparison["calibration"]) == 3
    card = (finished / "distilled_seed0" / "README.md").read_text()
    assert "| Log loss, nats |  | {baseline:.3f} | {candidate:.3f} |".format(**comparison["calibration"][0]) in card


def test_students_of_rows_with_several_actions_ahead_learn_and_are_measured_on_them(kitchen, tmp_path):
    run_distill.main(baseline_options(kitchen, tmp_path / "run", "--num_future_actions=3"))
    folder = tmp_path / "run" / "baseline_seed42"
    model = AVTForAnticipation.from_pretrained(folder).eval()
    assert model.config.num_future_actions == 3
    rows = kitchen_builder(kitchen, num_future_actions=3).rows("validation")
    batch = FeatureCollator(open_feature_store(kitchen / "features"))(rows.to_dict("records"))
    with torch.no_grad():
        output = model(
            **{name: value for name, value in batch.items() if name in ("video_features", "frame_mask")},
            num_future_steps=3,
        )
    horizons, actual = results(folder)["horizons"], np.stack(rows["future_actions"])
    assert horizons["num_actions"] == 3
    for step, top1 in enumerate(horizons["top1"]):
        known = actual[:, step] >= 0
        hits = output.future_logits[:, step].argmax(-1).numpy()[known] == actual[known, step]
        assert top1 == pytest.approx(100 * hits.mean())
    assert 0 <= horizons["edit_distance_of_samples"] <= 1
    assert 0 <= horizons["edit_distance"] <= 1
    assert "future_loss" in results(folder)["log"][0]


def test_a_weight_of_zero_leaves_the_roll_out_untrained(kitchen, tmp_path):
    more = ("--num_future_actions=3", "--model_options", '{"future_loss_weight": 0, "head_hidden_size": 16}')
    run_distill.main(baseline_options(kitchen, tmp_path / "run", *more))
    folder = tmp_path / "run" / "baseline_seed42"
    assert AVTForAnticipation.from_pretrained(folder).config.num_future_actions == 1
    assert results(folder)["horizons"] is None


def test_a_teacher_changes_the_student(finished):
    assert not equal(weights(finished / "baseline_seed0"), weights(finished / "distilled_seed0"))


def test_a_student_of_smoothed_labels_is_compared_with_both_others(kitchen, finished, tmp_path, capsys):
    seeds = ["--seeds", "0", "1"]
    run_distill.main(baseline_options(kitchen, tmp_path / "run", "--label_smoothing_factor=0.2", *seeds))
    smoothed = [tmp_path / "run" / f"baseline_seed{seed}" for seed in (0, 1)]
    assert json.loads((smoothed[0] / "settings.json").read_text())["label_smoothing_factor"] == 0.2
    assert "| label_smoothing_factor | 0.2 |" in (smoothed[0] / "README.md").read_text()
    assert not equal(weights(smoothed[0]), weights(finished / "baseline_seed0"))
    file = "scores_validation.parquet"
    for name, candidates in (("baseline", smoothed), ("distilled", smoothed)):
        baselines = [finished / f"{name}_seed{seed}" / file for seed in (0, 1)]
        capsys.readouterr()
        avt_distill("compare_runs", "--baseline", *baselines, "--candidate", *(c / file for c in candidates))
        assert "12 rows, 2 seeds" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"label_smoothing_factor is 0\.2 and distill_weight 1\.4.* compare_runs"):
        run_distill.main(options(kitchen, tmp_path / "both", "--label_smoothing_factor=0.2"))
    with pytest.raises(SystemExit, match="label_smoothing_factor"):
        run_distill.main(baseline_options(kitchen, finished, "--label_smoothing_factor=0.2", *seeds))


def test_finished_students_are_kept(kitchen, finished, monkeypatch, capsys):
    before = (finished / "comparison.json").read_text()
    watched(monkeypatch, lambda trainer, args: pytest.fail("a finished student was built again"))
    run_distill.main(options(kitchen, finished, "--seeds", "0", "1"))
    assert (finished / "comparison.json").read_text() == before
    printed = capsys.readouterr().out
    assert "baseline and distilled" in printed
    assert all(f"\n{measure} " in printed for measure in ("log loss", "Brier score", "expected calibration error"))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["--learning_rate=5e-3"], "learning_rate 0.01, not 0.005"),
        (["--distill_temperature=4"], "distill_temperature 3.0, not 4.0"),
        (["--balance_soft_labels=0.5"], "balance_soft_labels None, not 0.5"),
        (["--per_device_train_batch_size=6"], "batch_size 12, not 6"),
        (["--tau_a=2.0", "--accept_other_history=true"], "tau_a 1.0, not 2.0"),
        (["--dataloader_drop_last=true"], "dataloader_drop_last False, not True"),
        (["--eval_strategy=epoch"], "eval_strategy no, not epoch|eval_strategy 'no', not 'epoch'"),
        (["--adam_beta2=0.9"], "adam_beta2 0.999, not 0.9"),
        (['--model_options={"head_num_layers": 1}'], "model_options"),
    ],
    ids=lambda value: value[0].split("=")[0].lstrip("-") if isinstance(value, list) else "",
)
def test_another_setting_in_the_same_folder_is_refused(kitchen, finished, changed, named):
    before = weights(finished / "baseline_seed0")
    with pytest.raises(SystemExit, match=f"holds a student with .*{named}"):
        run_distill.main(options(kitchen, finished, "--seeds", "0", "1", *changed))
    assert equal(weights(finished / "baseline_seed0"), before)


def test_a_student_with_an_attached_encoder_is_not_part_of_the_run(kitchen, tmp_path, capsys):
    arguments = baseline_options(kitchen, tmp_path / "run", "--num_train_epochs=1", "--seed=0")
    run_distill.main(arguments)
    shutil.copytree(tmp_path / "run" / "baseline_seed0", tmp_path / "run" / "baseline_seed0_video")
    run_distill.main(arguments)
    printed = capsys.readouterr().out
    assert "baseline_seed0 " in printed
    assert "baseline_seed0_video" not in printed


def test_other_soft_labels_in_the_same_folder_are_refused(kitchen, finished, tmp_path):
    table = SoftLabelTable.load(kitchen.parent / "soft.parquet")
    SoftLabelTable(table.uids, table.logits + np.arange(4), table.metadata).save(tmp_path / "other.parquet")
    with pytest.raises(SystemExit, match="holds a student with soft_labels"):
        run_distill.main(options(kitchen, finished, "--seeds", "0", soft_labels=tmp_path / "other.parquet"))


class KilledError(Exception):
    pass


class Kill(TrainerCallback):
    """Interrupts training after a step, to imitate a kill."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KilledError


SAVING = ("--save_strategy=steps", "--save_steps=2", "--lr_scheduler_type=cosine")


@pytest.fixture(scope="module")
def undisturbed(kitchen, tmp_path_factory) -> Path:
    """The folder of a finished run that left checkpoints."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_distill.main(options(kitchen, folder, *SAVING))
    return folder


@pytest.mark.parametrize("name", ["baseline", "distilled"])
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(kitchen, undisturbed, tmp_path, monkeypatch, name):
    """Dropout, momentum, row order and schedule all continue where they stopped, also within an epoch."""
    with monkeypatch.context() as patches:
        watched(patches, lambda trainer, args: args.run_name.startswith(name) and trainer.add_callback(Kill(5)))
        with pytest.raises(KilledError):
            run_distill.main(options(kitchen, tmp_path / "killed", *SAVING))
    folder = tmp_path / "killed" / f"{name}_seed42"
    assert {path.name for path in folder.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    assert not (folder / "results.json").exists()

    steps = []

    class Count(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            steps.append((args.run_name, state.global_step))

    watched(monkeypatch, lambda trainer, args: trainer.add_callback(Count()))
    run_distill.main(options(kitchen, tmp_path / "killed", *SAVING))
    assert [step for run, step in steps if run.startswith(name)] == [5, 6, 7, 8, 9]
    for student in ("baseline_seed42", "distilled_seed42"):
        assert equal(weights(tmp_path / "killed" / student), weights(undisturbed / student))


def test_students_of_a_seed_begin_alike_and_get_the_same_rows(kitchen, tmp_path, monkeypatch):
    began, seen = {}, {}

    def watch(trainer, args):
        began[args.run_name] = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        seen[args.run_name], collate = [], trainer.data_collator

        def recorded(rows):
            seen[args.run_name] += [row["uid"] for row in rows]
            return collate(rows)

        trainer.data_collator = recorded

    watched(monkeypatch, watch)
    run_distill.main(options(kitchen, tmp_path, "--seeds", "0", "1"))
    for seed in (0, 1):
        assert equal(began[f"baseline_seed{seed}"], began[f"distilled_seed{seed}"])
        assert seen[f"baseline_seed{seed}"] == seen[f"distilled_seed{seed}"]
        assert len(seen[f"baseline_seed{seed}"]) == 3 * 36
    assert not equal(began["baseline_seed0"], began["baseline_seed1"])
    assert seen["baseline_seed0"] != seen["baseline_seed1"]


def test_a_weight_of_zero_trains_baselines_alone(kitchen, finished, tmp_path):
    run_distill.main(baseline_options(kitchen, tmp_path, "--seeds", "0"))
    assert {path.name for path in tmp_path.iterdir()} == {"baseline_seed0", *BESIDE_STUDENTS}
    assert equal(weights(tmp_path / "baseline_seed0"), weights(finished / "baseline_seed0"))


def test_soft_labels_of_another_label_space_are_refused_before_training(kitchen, tmp_path):
    other = LabelSpace((*ACTIONS[:3], "peel_onion"))
    write_soft_labels(tmp_path / "other.parquet", kitchen, label_space=other)
    with pytest.raises(SystemExit, match="columns would stand for other actions"):
        run_distill.main(options(kitchen, tmp_path / "run", soft_labels=tmp_path / "other.parquet"))
    assert not (tmp_path / "run").exists()


def test_rows_that_soft_labels_lack_are_refused_or_masked_and_counted(kitchen, tmp_path):
    write_soft_labels(tmp_path / "few.parquet", kitchen, num_missing=5)
    given = options(kitchen, tmp_path / "run", "--baseline=false", soft_labels=tmp_path / "few.parquet")
    with pytest.raises(SystemExit, match=r"lack 5 of 36 uids, 'v0_3\.000' first"):
        run_distill.main(given)
    assert not (tmp_path / "run").exists()
    run_distill.main([*given, "--missing_soft_labels=mask"])
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"distilled_seed42", *BESIDE_STUDENTS}
    assert results(tmp_path / "run" / "distilled_seed42")["num_rows_without_teacher"] == 5


def test_several_tables_are_averaged(kitchen, tmp_path):
    table = SoftLabelTable.load(kitchen.parent / "soft.parquet")
    SoftLabelTable(table.uids, table.logits[::-1], {**table.metadata, "model": "other"}).save(tmp_path / "b.parquet")
    tables = ["--soft_labels", str(kitchen.parent / "soft.parquet"), str(tmp_path / "b.parquet"), "--baseline=false"]
    run_distill.main(options(kitchen, tmp_path / "run", *tables))
    assert results(tmp_path / "run" / "distilled_seed42")["teacher"]["model"] == "counts, other"


def test_balanced_soft_labels_train_as_a_table_divided_beforehand_does(kitchen, tmp_path):
    table = SoftLabelTable.load(kitchen.parent / "soft.parquet")
    actions = load_anticipation_dataset(str(kitchen), tau_a=1.0)["train"]["action"]
    counts = np.bincount(actions, minlength=4) + 1
    log_probs = table.logits - np.log(np.exp(table.logits).sum(1, keepdims=True))
    divided = log_probs - 0.5 * np.log(counts / counts.sum())
    SoftLabelTable(table.uids, divided, table.metadata).save(tmp_path / "divided.parquet")
    for name, more in {
        "a": ["--balance_soft_labels=0.5"],
        "b": [f"--soft_labels={tmp_path / 'divided.parquet'}"],
    }.items():
        run_distill.main(options(kitchen, tmp_path / name, "--baseline=false", *more))
    found, wanted = (weights(tmp_path / name / "distilled_seed42") for name in "ab")
    assert all(torch.allclose(found[key], wanted[key], atol=1e-4) for key in wanted)
    assert results(tmp_path / "a" / "distilled_seed42")["teacher"]["balance"] == "0.5"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--soft_labels=nowhere.parquet"], "nowhere.parquet"),
        (['--model_options={"num_layers": 2}'], "model_options has 'num_layers', which is not a field of AVTConfig"),
        (['--model_options={"tau_a": 0.5}'], "model_options sets tau_a to 0.5, but the data set has 1.0: leave it out"),
        (['--model_options={"head_num_layers": "two"}'], "head_num_layers is 'two': give a whole number"),
        (["--num_frames=1000000000"], "num_frames is 1000000000: give a whole number from 1 to 65536"),
        (["--tau_o=inf"], "tau_o is inf: give a finite number of seconds, above 0"),
        (["--backbone=x"], "features and backbone are both given"),
        (["--missing_soft_labels=skip"], "missing_soft_labels is 'skip': give 'raise' or 'mask'"),
        (["--balance_soft_labels=-1"], "balance_soft_labels is -1.0: give a finite number, 0 or more"),
        (["--distill_top_k=5"], "distill_top_k is 5, but the data set has 4 actions: give at most as many"),
        (["--evaluation_split=valid"], "evaluation_split is 'valid', but the splits are"),
        (["--train_split=training"], "train_split is 'training', but the splits are"),
        (["--features=nowhere"], "nowhere is not a feature store"),
        (["--freeze_backbone=true"], "freeze_backbone is set, but a student of features"),
        (["--model_option={}"], "did you mean model_options"),
    ],
    ids=lambda value: value[0].split("=")[0].lstrip("-") if isinstance(value, list) else "",
)
def test_invalid_options_are_refused_and_leave_no_student(kitchen, tmp_path, changed, message):
    with pytest.raises(SystemExit, match=message):
        run_distill.main(options(kitchen, tmp_path / "run", *changed))
    # Files that it leaves would prevent the corrected run from using the folder.
    assert not list((tmp_path / "run").rglob("*.json"))


def test_a_weight_without_soft_labels_is_refused(kitchen, tmp_path):
    given = [option for option in options(kitchen, tmp_path / "run") if not option.startswith("--soft_labels")]
    with pytest.raises(SystemExit, match=r"distill_weight is 1\.415, but there are no soft_labels"):
        run_distill.main(given)


def test_a_student_without_input_is_refused(kitchen, tmp_path):
    given = [option for option in baseline_options(kitchen, tmp_path / "run") if not option.startswith("--features")]
    with pytest.raises(SystemExit, match="The student has no input: give --features, or the data set's --videos"):
        run_distill.main(given)


@pytest.fixture(scope="module")
def video_options(tmp_path_factory) -> list[str]:
    """Options of a run on two videos with a backbone of 32 px, without its output folder."""
    root = tmp_path_factory.mktemp("videos")
    folder, vit = write_video_kitchen(root / "data"), write_tiny_vit(root / "vit")
    rows = {"num_frames": 4, "tau_o": 4.0, "cache_dir": str(root / "cache")}
    head = {"head_hidden_size": 32, "head_num_layers": 1, "head_num_positions": 16}
    named = {"dataset": folder, **rows, "backbone": vit, "model_options": json.dumps(head)}
    named |= {"max_steps": 1, "learning_rate": 0.1, "optim": "sgd", "use_cpu": True, "disable_tqdm": True}
    return [*(f"--{name}={value}" for name, value in named.items()), "--save_strategy=no", "--distill_weight=0"]


def test_a_student_of_videos_trains_on_one_view_and_is_measured_on_six(video_options, tmp_path, monkeypatch):
    shapes = {True: set(), False: set()}
    forward = AVTForAnticipation.forward

    def recorded(self, pixel_values_videos=None, **kwargs):
        shapes[self.training].add(tuple(pixel_values_videos.shape[1:]))
        return forward(self, pixel_values_videos=pixel_values_videos, **kwargs)

    monkeypatch.setattr(AVTForAnticipation, "forward", recorded)
    more = ["--evaluation_crops=3", "--evaluation_flips=true", f"--output_dir={tmp_path}"]
    run_distill.main([*video_options, *more, "--remove_unused_columns=false"])
    assert shapes == {True: {(4, 3, 32, 32)}, False: {(6, 4, 3, 32, 32)}}
    folder = tmp_path / "baseline_seed42"
    assert AVTForAnticipation.from_pretrained(folder).config.id2label == {0: "cut_tomato", 1: "take_egg"}
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    assert (processor.crop_size["height"], processor.num_frames, processor.tau_o) == (32, 4, 4.0)
    assert len(ScoreTable.load(folder / "scores_validation.parquet").uids) == 2


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_backbone_keeps_its_weights(video_options, tmp_path, frozen):
    run_distill.main([*video_options, f"--output_dir={tmp_path}", f"--freeze_backbone={frozen}"])
    vit = next(option for option in video_options if option.startswith("--backbone=")).removeprefix("--backbone=")
    trained = AVTForAnticipation.from_pretrained(tmp_path / "baseline_seed42").avt.backbone
    began = type(trained).from_pretrained(vit, add_pooling_layer=False)
    assert equal(trained.state_dict(), began.state_dict()) == frozen


WORKERS = ["--dataloader_num_workers=2"]
PERSISTENT = [*WORKERS, "--dataloader_persistent_workers=true"]


SLOW_CASES = [
    ([], 2),
    ([], 3),
    *((more, step) for more in (["--gradient_accumulation_steps=2"], WORKERS, PERSISTENT) for step in (3, 4)),
    ([*WORKERS, "--gradient_accumulation_steps=2"], 3),
]


@pytest.mark.parametrize(
    ("more", "step"), [([], 4), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_CASES)]
)
def test_random_crops_are_the_same_after_a_kill(video_options, tmp_path, monkeypatch, more, step):
    """Epochs have 2 steps or 1; the kill is before a step's checkpoint is written, in the second epoch or elsewhere."""
    crops = '--processor_options={"size": 36, "crop_size": 32, "train_size": [36, 48]}'
    given = [*video_options, crops, "--max_steps=4", "--per_device_train_batch_size=1", "--save_strategy=steps"]
    given += ["--save_steps=1", *more]
    run_distill.main([*given, f"--output_dir={tmp_path / 'undisturbed'}"])
    killed = [*given, f"--output_dir={tmp_path / 'killed'}"]
    with monkeypatch.context() as patches:
        watched(patches, lambda trainer, args: trainer.add_callback(Kill(step)))
        with pytest.raises(KilledError):
            run_distill.main(killed)
    run_distill.main(killed)
    assert equal(*(weights(tmp_path / run / "baseline_seed42") for run in ("undisturbed", "killed")))


@pytest.mark.slow
def test_random_crops_do_not_depend_on_workers(video_options, tmp_path):
    given = [*video_options, "--max_steps=2", "--save_strategy=no", "--seeds=1"]
    run_distill.main([*given, f"--output_dir={tmp_path}"])
    trained = weights(tmp_path / "baseline_seed1")
    (tmp_path / "baseline_seed1" / "results.json").unlink()
    run_distill.main([*given, f"--output_dir={tmp_path}", *WORKERS])  # the same run may use the folder
    assert equal(weights(tmp_path / "baseline_seed1"), trained)


@pytest.fixture
def launched(fork_server, tmp_path) -> dict[str, str]:
    """The variables that `accelerate launch` sets in the two processes of the configuration for CPUs."""
    script = "import json, os; json.dump(dict(os.environ), open(f'{os.environ[\"RANK\"]}.json', 'w'))"
    (tmp_path / "script.py").write_text(script)
    launch = ["--main_process_port", "0", "--config_file", str(PROJECT / "configs/accelerate/cpu_processes.yaml")]
    code = f"import sys; sys.argv[1:] = {[*launch, 'script.py']}; from accelerate.commands.launch import main; main()"
    fork_server.run(code, tmp_path)
    processes = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [process["WORLD_SIZE"] for process in processes] == ["2", "2"]
    own = [{name: value for name, value in p.items() if name.startswith("ACCELERATE_")} for p in processes]
    assert own[0] == own[1]
    return own[0]


def test_two_processes_train_and_measure_as_one(kitchen, tmp_path, fork_server, launched):
    """12 rows for two processes in batches of 5: last batches are filled with repeated rows, which are then dropped."""
    exact = {"head_dropout": 0.0, "classifier_dropout": 0.0, "head_hidden_size": 32, "head_num_layers": 2}
    exact |= {"head_num_positions": 16, "initializer_range": 0.3}
    more = [f"--model_options={json.dumps(exact)}", "--ddp_find_unused_parameters=false", "--learning_rate=1e-3"]
    run_distill.main(options(kitchen, tmp_path / "one", *more))
    given = options(kitchen, tmp_path / "two", *more, "--per_device_train_batch_size=6")
    script = f"runpy.run_path({str(PROJECT / 'run_distill.py')!r}, run_name='__main__')"
    code = f"{WITH_THE_PROJECT}import runpy; sys.argv[1:] = {given}; {script}"
    fork_server.run_several(code, tmp_path, **launched)
    expected = kitchen_builder(kitchen).rows("validation")["uid"].tolist()
    for student in ("baseline_seed42", "distilled_seed42"):
        one, two = (ScoreTable.load(tmp_path / run / student / "scores_validation.parquet") for run in ("one", "two"))
        assert two.uids == expected
        np.testing.assert_array_equal(two.labels, one.labels)
        np.testing.assert_allclose(two.scores, one.scores, rtol=1e-5, atol=1e-5)
        assert [results(tmp_path / run / student)["num_processes"] for run in ("one", "two")] == [1, 2]
        for name, loss in results(tmp_path / "one" / student)["losses"].items():
            assert results(tmp_path / "two" / student)["losses"][name] == pytest.approx(loss, rel=1e-4), name


@pytest.mark.slow
def test_accelerate_launches_the_module(kitchen, finished, tmp_path):
    """Starts new processes as a user would; the students equal those of the same command without a launcher."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file"]
    launch += [str(PROJECT / "configs/accelerate/cpu_processes.yaml"), "-m", "avt_distill", "distill"]
    given = options(kitchen, tmp_path / "two", "--seeds", "0", "--per_device_train_batch_size=6")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    # The exit status is not checked: on the CPU, torch may abort a process at its end (see CONTRIBUTING.md).
    subprocess.run([*launch, *given], cwd=tmp_path, env=environment, check=False, timeout=240)
    for student in ("baseline_seed0", "distilled_seed0"):
        two = results(tmp_path / "two" / student)
        assert (two["num_processes"], two["steps"]) == (2, results(finished / student)["steps"])
