"""`fit_reader`, from annotations and features or videos to students that read the history of actions."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.checkpoints import change_weights
from helpers.commands import avt_distill
from helpers.processes import command
from helpers.tiny_models import tiny_config, tiny_model
from helpers.videos import numbered_frames, write_video
from tiny_kitchen import ACTIONS, kitchen_builder, write_kitchen, write_soft_labels, write_tiny_vit

from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.features.stores import open_feature_store, write_features
from avt_distill.metrics import softmax
from avt_distill.reader import members
from avt_distill.reader.arguments import ReaderArguments
from avt_distill.reader.run import fold_arguments
from avt_distill.runs.arguments import parse_run
from avt_distill.runs.folder import read_json, write_json
from avt_distill.sharing.cards import checkpoint_card
from avt_distill.teacher.fine_tuning import HistoryRule
from avt_distill.teacher.language_models import load_text_backbone, load_tokenizer
from avt_distill.teacher.modeling_teacher import TextTeacher, TextTeacherConfig
from avt_distill.teacher.soft_labels import SoftLabelTable
from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTVideoProcessor

SMALL = ("--inner_folds", 3, "--beam", 50, "--distill_weight", 0, "--seeds", 0, 1)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    return write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")


def fit(kitchen: Path, folder: Path, *more) -> Path:
    given = ["--features", kitchen / "features", "--output_dir", folder, *SMALL]
    avt_distill("fit_reader", kitchen / "run.yaml", *given, *more)
    return folder


@pytest.fixture(scope="module")
def fitted(kitchen, tmp_path_factory) -> Path:
    return fit(kitchen, tmp_path_factory.mktemp("fitted") / "run")


def scores(folder: Path, name: str, seed: int = 0) -> ScoreTable:
    return ScoreTable.load(folder / "reader" / f"scores_validation_{name}_seed{seed}.parquet")


STAYS = "student_+_reader_log-linear"


def test_a_student_and_a_reader_no_better_than_chance_are_refused(kitchen, tmp_path, monkeypatch):
    monkeypatch.setattr(members, "fit_weights", lambda of_members, labels: [0.0] * len(of_members))
    with pytest.raises(SystemExit, match="neither the student nor the reader is better than chance"):
        fit(kitchen, tmp_path / "run")
    assert not (tmp_path / "run" / "reader_seed0").exists()


def test_all_that_is_compared_is_in_the_table(kitchen, tmp_path, capsys):
    fit(kitchen, tmp_path / "run", "--transitions", "unigram", "log-linear")
    printed = capsys.readouterr().out
    comparison = read_json(tmp_path / "run" / "reader_comparison.json")
    readers = ["reader, unigram", "reader, log-linear"]
    fused = ["student + probe", *(f"student + {reader}" for reader in readers)]
    assert list(comparison["metrics"]) == ["student", "probe", *readers, *fused, "true history"]
    assert comparison["reference"] == "student + probe"
    for name, metrics in comparison["metrics"].items():
        assert name in printed
        assert 0 <= metrics["top-1"] <= metrics["top-5"] <= 100
        if "true" not in name:
            of_seeds = [scores(tmp_path / "run", name.replace(", ", "_").replace(" ", "_"), seed) for seed in (0, 1)]
            top1 = np.mean([100 * (table.scores.argmax(1) == table.labels).mean() for table in of_seeds])
            assert metrics["top-1"] == pytest.approx(top1)
    for found in comparison["comparisons"].values():
        assert set(found) == {"difference", "relative_percent", "over_rows", "over_videos", "over_seeds"}
    for said in ("the paper's method", "(ours)", "a ceiling", "12 rows of 2 videos, 2 seeds"):
        assert said in printed


LOAD_READER = """
import json, numpy as np
from huggingface_hub import ModelCard
from transformers import pipeline
anticipate = pipeline("action-anticipation", model="user/reader", trust_remote_code=True)
answers = anticipate({{"video_features": np.load({features!r}), "frames_per_second": 1.0}}, at=25.0)
card = ModelCard.load("user/reader")
print(json.dumps([len(answers[0]["history"]) > 0, card.data.eval_results[0].metric_value]))
"""


def test_a_student_with_its_reader_is_pushed_with_its_own_numbers(kitchen, fitted, hub, tmp_path):
    features = tmp_path / "features.npy"
    np.save(features, open_feature_store(kitchen / "features").read_all("v6")[0])
    folder = fitted / "reader_seed0"
    assert hub.run(command("push_to_hub", folder, "user/reader"), "here").endswith("pushed to user/reader\n")
    pushed = hub.repositories["models/user/reader"]
    assert {"results.json", "reader_comparison.json", "model.safetensors", "reader_avt.py"} <= set(pushed)
    read, top1 = json.loads(hub.run(LOAD_READER.format(features=str(features)), "elsewhere").splitlines()[-1])
    table, results = scores(fitted, STAYS), read_json(folder / "results.json")
    assert read
    assert top1 == round(100 * (table.scores.argmax(1) == table.labels).mean(), 2)
    assert results["scores"] == table.metadata
    assert results["num_training_rows"] == read_json(fitted / "baseline_seed0" / "results.json")["num_training_rows"]
    card = pushed["README.md"].decode()
    assert all(f"- **{kind}**:" in card for kind in ("distilled", "read", "true history"))
    comparison = read_json(fitted / "reader_comparison.json")
    for name, metrics in comparison["metrics"].items():
        line = next(line for line in card.replace("*", "").splitlines() if line.startswith(f"| {name} |"))
        assert f" | {metrics['top-1']:.2f} | {metrics['top-5']:.2f} | " in line
    assert "12 actions of 2 videos; means over 2 seeds (0, 1)" in card
    before, after = (comparison["calibration"]["student"][when]["log_loss"] for when in ("before", "after"))
    assert f"| student | {before:.2f} / {after:.2f} |" in card
    assert str(fitted) not in card
    assert hub.unknown == []


def test_weights_are_as_readable_as_any_other_file(fitted):
    files = list(fitted.rglob("*.safetensors"))
    assert len(files) > 5  # of students, inner folds and readers
    assert {path.stat().st_mode for path in files} == {(fitted / "reader_comparison.json").stat().st_mode}


def test_the_first_seed_has_a_card_and_all_can_be_given_one(fitted):
    assert (fitted / "reader_seed0" / "README.md").exists()
    assert not (fitted / "reader_seed1" / "README.md").exists()
    assert "seed 1 with its reader" in str(checkpoint_card(fitted / "reader_seed1", "user/reader"))


def test_the_order_of_a_repeated_script_is_learned(fitted):
    """The kitchen's order is fixed: except for each video's first action, the next action is determined by the previous
    ones, which the frames show."""
    metrics = read_json(fitted / "reader_comparison.json")["metrics"]
    assert metrics["true history"]["top-1"] == pytest.approx(100 * 10 / 12)
    assert metrics["reader, log-linear"]["top-1"] == pytest.approx(100 * 10 / 12)
    assert metrics["student + reader, log-linear"]["log loss"] < metrics["student + probe"]["log loss"] - 0.5
    assert metrics["reader, log-linear"]["log loss"] < metrics["reader, unigram"]["log loss"]


def check_that_pipelines_answer_what_was_measured(kitchen: Path, run: Path):
    store, rows = open_feature_store(kitchen / "features"), kitchen_builder(kitchen).rows("validation")
    for seed in (0, 1):
        anticipate = ActionAnticipationPipeline(AVTForAnticipation.from_pretrained(run / f"reader_seed{seed}"))
        table, first_s = scores(run, STAYS, seed), store.read_all(rows["video_id"][0])[2]
        whole = rows[rows["observed_start_s"] >= first_s]  # windows that no frame is missing from
        assert len(whole) >= len(rows) / 2
        for row in whole.itertuples():
            features, rate, start_s = store.read_all(row.video_id)
            video = {"video_features": features, "frames_per_second": rate, "start_s": start_s}
            answers = {a["label"]: a["score"] for a in anticipate(video, at=row.observed_end_s, top_k=len(ACTIONS))}
            measured = softmax(table.scores[table.uids.index(row.uid)])
            np.testing.assert_allclose([answers[name] for name in ACTIONS], measured, atol=1e-5)


def test_the_pipeline_answers_what_was_measured(kitchen, fitted):
    check_that_pipelines_answer_what_was_measured(kitchen, fitted)


def test_a_store_that_begins_within_the_first_second_is_read_alike(kitchen, tmp_path):
    late = shutil.copytree(kitchen, tmp_path / "late", ignore=shutil.ignore_patterns("cache*"))
    store = open_feature_store(kitchen / "features")
    for video in store.video_ids():
        features, rate, _ = store.read_all(video)
        write_features(late / "features" / f"{video}.safetensors", features, rate, 0.5)
    write_features(late / "features" / "a0.safetensors", features[:1], rate, 0.5)  # the first video has one frame
    with open(late / "segments.csv", "a") as file:
        file.write(f"a0,1.0,1.5,{ACTIONS[0]},train\n")
    given = ["--feature_missing", "search_back", "--num_train_epochs", 4, "--probe", "false", "--inner_folds", 2]
    run = fit(late, tmp_path / "run", *given)
    check_that_pipelines_answer_what_was_measured(late, run)


def test_each_seed_reads_with_its_own_recognizer(kitchen, tmp_path):
    options = yaml.safe_load((kitchen / "run.yaml").read_text())["model_options"] | {"recognizes_frames": True}
    given = ["--model_options", json.dumps(options), "--num_train_epochs", 4, "--probe", "false", "--inner_folds", 2]
    run = fit(kitchen, tmp_path / "run", *given)
    check_that_pipelines_answer_what_was_measured(kitchen, run)
    recognized = [AVTForAnticipation.from_pretrained(run / f"reader_seed{seed}").recognizer for seed in (0, 1)]
    assert not np.allclose(*(recognizer.weight.detach() for recognizer in recognized), atol=1e-3)


def test_a_checkpoint_gets_the_calibration_of_held_out_videos(kitchen, fitted, tmp_path, capsys):
    comparison = read_json(fitted / "reader_comparison.json")
    calibrations = comparison["chosen"][""]["calibrations"]
    config = AVTForAnticipation.from_pretrained(fitted / "reader_seed0").config
    assert config.calibration == calibrations["student"]
    assert config.reader["calibration"] == calibrations["student + reader, log-linear"] == {"temperature": 1.0}
    fit(kitchen, tmp_path / "run", "--transitions", "log-linear", "--error_rate", "0.4")
    printed = capsys.readouterr().out
    assert "answered, for 40 % errors" in printed
    model = AVTForAnticipation.from_pretrained(tmp_path / "run" / "reader_seed0")
    assert model.config.calibration["error_rate"] == model.reader.settings.calibration["error_rate"] == 0.4
    features = open_feature_store(kitchen / "features").read_all("v6")[0]
    answers = ActionAnticipationPipeline(model)({"video_features": features, "frames_per_second": 1.0}, at=20.0)
    assert answers[0]["says"] in (None, answers[0]["label"])
    measured = read_json(tmp_path / "run" / "reader_comparison.json")["calibration"]
    assert set(measured) == {"student", "student + reader, log-linear"}
    with pytest.raises(SystemExit, match=r"error_rate is 1\.5: give a finite number, above 0 and below 1"):
        fit(kitchen, tmp_path / "other", "--error_rate", "1.5")


def test_true_actions_of_the_evaluation_videos_are_not_read(kitchen, fitted, tmp_path):
    """With other labels in the evaluation split, all answers stay the same except those given the true history."""
    other = shutil.copytree(kitchen, tmp_path / "data", ignore=shutil.ignore_patterns("cache"))
    with open(other / "segments.csv") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["split"] == "validation":
            row["action"] = ACTIONS[3 - ACTIONS.index(row["action"])]
    with open(other / "segments.csv", "w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (other / "run.yaml").write_text((other / "run.yaml").read_text().replace(str(kitchen), str(other)))
    fit(other, tmp_path / "run")
    for name in ("student", "probe", "reader_log-linear", "student_+_probe", STAYS):
        found, expected = scores(tmp_path / "run", name), scores(fitted, name)
        assert found.uids == expected.uids
        assert (found.labels != expected.labels).all()
        np.testing.assert_array_equal(found.scores, expected.scores, err_msg=name)
    assert not np.array_equal(scores(tmp_path / "run", "true_history").scores, scores(fitted, "true_history").scores)


def test_nothing_of_the_evaluation_videos_decides_about_the_reader(kitchen, fitted, tmp_path):
    other = shutil.copytree(kitchen, tmp_path / "data", ignore=shutil.ignore_patterns("cache"))
    for name in ("v6", "v7"):
        (other / "features" / f"{name}.safetensors").unlink()
        noise = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
        write_features(other / "features" / f"{name}.safetensors", noise, 1.0)
    (other / "run.yaml").write_text((other / "run.yaml").read_text().replace(str(kitchen), str(other)))
    fit(other, tmp_path / "run")
    chosen, expected = (read_json(folder / "reader" / "chosen.json") for folder in (tmp_path / "run", fitted))
    del chosen["evaluation_frames_right"], expected["evaluation_frames_right"]
    assert chosen == expected
    model, other = (
        AVTForAnticipation.from_pretrained(folder / "reader_seed0") for folder in (tmp_path / "run", fitted)
    )
    for (name, found), (_, wanted) in zip(model.state_dict().items(), other.state_dict().items(), strict=True):
        assert found.equal(wanted), name


def test_a_run_is_resumed_and_its_students_are_kept(kitchen, tmp_path, capsys):
    write_soft_labels(tmp_path / "soft.parquet", kitchen)
    given = ["--features", kitchen / "features", "--soft_labels", tmp_path / "soft.parquet"]
    avt_distill("distill", kitchen / "run.yaml", *given, "--output_dir", tmp_path / "run", "--seeds", 0)
    weights = tmp_path / "run" / "distilled_seed0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    avt_distill("fit_reader", tmp_path / "run", "--inner_folds", 2, "--beam", 20)
    assert weights.stat().st_mtime_ns == before
    comparison = read_json(tmp_path / "run" / "reader_comparison.json")
    assert "distilled + reader, log-linear" in comparison["metrics"]
    weights = comparison["chosen"][""]["weights"]
    reader = AVTForAnticipation.from_pretrained(tmp_path / "run" / "reader_seed0").config.reader
    assert reader["fusion_weights"] == pytest.approx(weights["distilled + reader, log-linear"])
    card = (tmp_path / "run" / "reader_seed0" / "README.md").read_text()
    assert "| **distilled + reader, log-linear** | **distilled, read** |" in card
    assert "without teacher, mean" not in card  # this is part of the comparison of students, not of readers
    capsys.readouterr()
    avt_distill("fit_reader", tmp_path / "run" / "distilled_seed0", "--inner_folds", 2, "--beam", 20)
    assert "distilled + reader, log-linear" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds a reader with beam 20, not 30"):
        avt_distill("fit_reader", tmp_path / "run", "--inner_folds", 2, "--beam", 30)


def test_a_calibration_by_hand_is_kept_when_the_same_reader_is_written_again(kitchen, fitted, tmp_path, caplog):
    run = shutil.copytree(fitted, tmp_path / "run")
    folder = run / "reader_seed0"
    of_pool = run / "reader" / f"scores_validation_{STAYS}_seed0.parquet"
    avt_distill("calibrate", folder, "--scores", of_pool, "--error_rate", "0.5")
    config, record = read_json(folder / "config.json"), read_json(folder / "calibrated.json")
    assert config["reader"]["calibration"]["error_rate"] == 0.5
    fit(kitchen, run)
    assert read_json(folder / "config.json") == config
    assert read_json(folder / "calibrated.json") == record
    assert "50 %" in (folder / "README.md").read_text()
    assert "dropped" not in caplog.text

    change_weights(folder, lambda weights: {name: weight + 1 for name, weight in weights.items()})
    fit(kitchen, run)
    assert read_json(folder / "config.json")["reader"]["calibration"] == {"temperature": 1.0}
    assert not (folder / "calibrated.json").exists()
    assert f"calibration of {folder} is dropped, since it is another model now" in caplog.text


def write_teacher(folder: Path, kitchen: Path, language_model: Path) -> Path:
    """Writes a random teacher of the kitchen's actions."""
    space, rule = kitchen_builder(kitchen).annotations.label_space, HistoryRule()
    config = TextTeacherConfig(
        backbone_config=load_text_backbone(language_model).config,
        id2label=dict(enumerate(ACTIONS)),
        action_texts=[name.replace("_", " ") for name in ACTIONS],
        label_space_hash=space.content_hash,
        history_cutoff=rule.history_cutoff,
    )
    TextTeacher(config).save_pretrained(folder)
    load_tokenizer(language_model).save_pretrained(folder)
    return folder


def test_a_reader_of_words_is_kept_and_travels_as_plain_tables(kitchen, tmp_path, language_models):
    """The reader is compared with the log-linear model without words, and the card describes it."""
    model = tmp_path / "language_model"
    shutil.copytree(language_models["bert"], model)
    given = [
        "--language_model",
        model,
        "--seeds",
        0,
        "--inner_folds",
        2,
        "--transitions",
        "log-linear",
        "--max_steps",
        1,
    ]
    folder = fit(kitchen, tmp_path / "run", *given)
    comparison = read_json(folder / "reader_comparison.json")
    readers = ["reader, log-linear", "reader, worded"]
    assert [name for name in comparison["metrics"] if name.startswith("reader")] == readers
    assert comparison["reading"]["pool"] == "student + reader, worded"
    reader = AVTForAnticipation.from_pretrained(folder / "reader_seed0").reader
    assert reader.settings.transitions["kind"] == "log_linear"
    card = (folder / "reader_seed0" / "README.md").read_text(encoding="utf-8")
    assert "a log-linear model, shaped by vectors of the actions' names, which reads" in card
    change_weights(model, lambda weights: {name: 2 * value for name, value in weights.items()})
    with pytest.raises(SystemExit, match=r"holds a reader with language_model_content\.model\.safetensors "):
        fit(kitchen, tmp_path / "run", *given)


def test_a_teacher_of_other_actions_is_refused_before_training(kitchen, tmp_path, language_models):
    """Their number may be the same, and only their order another."""
    teacher = write_teacher(tmp_path / "teacher", kitchen, language_models["bert"])
    other = shutil.copytree(kitchen, tmp_path / "data", ignore=shutil.ignore_patterns("cache*"))
    (other / "run.yaml").write_text((other / "run.yaml").read_text().replace(str(kitchen), str(other)))
    LabelSpace(ACTIONS[::-1]).save(other / "labels.json")
    with pytest.raises(SystemExit, match=r"teacher was trained on label space .*: its columns would stand for other"):
        fit(other, tmp_path / "run", "--teacher", teacher)
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_learned_from_the_evaluation_videos_is_refused_before_training(
    kitchen, tmp_path, language_models
):
    teacher = write_teacher(tmp_path / "teacher", kitchen, language_models["bert"])
    write_json(teacher / "training.json", {"videos": ["v0", "v6"], "held_out_videos": ["v7"]})
    with pytest.raises(SystemExit, match="teacher learned from 'v6' and 1 more of the 2 videos to measure on"):
        fit(kitchen, tmp_path / "run", "--teacher", teacher)
    assert not (tmp_path / "run").exists()


def test_readers_of_an_overwritten_teacher_are_not_reused(kitchen, tmp_path, language_models):
    teacher = write_teacher(tmp_path / "teacher", kitchen, language_models["bert"])
    given = ["--teacher", teacher, "--seeds", 0, "--inner_folds", 2, "--transitions", "unigram", "--max_steps", 1]
    fit(kitchen, tmp_path / "run", *given)
    change_weights(teacher, lambda weights: {name: 2 * value for name, value in weights.items()})
    with pytest.raises(SystemExit, match=r"holds a reader with teacher_content\.model\.safetensors "):
        fit(kitchen, tmp_path / "run", *given)


def test_whose_frames_are_read_is_stated(kitchen, fitted, tmp_path, capsys):
    """With recognizers of their own, the row "student + reader" depends on the soft labels of the distilled student."""
    write_soft_labels(tmp_path / "soft.parquet", kitchen)
    options = yaml.safe_load((kitchen / "run.yaml").read_text())["model_options"]
    options |= {"recognizes_frames": True}
    given = ["--soft_labels", tmp_path / "soft.parquet", "--distill_weight", 1, "--model_options", json.dumps(options)]
    given += ["--num_train_epochs", 4, "--probe", "false", "--seeds", 0, "--inner_folds", 2]
    run = fit(kitchen, tmp_path / "run", *given)
    assert "the frames that the distilled student recognizes" in capsys.readouterr().out
    by = [
        read_json(folder / "reader_comparison.json")["chosen"][""]["frames_recognized_by"] for folder in (run, fitted)
    ]
    assert by == ["distilled", "a classifier of stored features"]


def test_readers_of_other_soft_labels_are_not_reused(kitchen, tmp_path):
    write_soft_labels(tmp_path / "soft.parquet", kitchen)
    given = ["--soft_labels", tmp_path / "soft.parquet", "--distill_weight", 1, "--baseline", "false"]
    given += ["--seeds", 0, "--inner_folds", 2, "--transitions", "unigram"]
    fit(kitchen, tmp_path / "run", *given)
    table = SoftLabelTable.load(tmp_path / "soft.parquet")
    SoftLabelTable(table.uids, 2 * table.logits, table.metadata).save(tmp_path / "soft.parquet")
    with pytest.raises(SystemExit, match=r"holds a student with soft_labels '\w+', not '\w+'"):
        fit(kitchen, tmp_path / "run", *given)


def test_students_of_other_inner_folds_are_not_reused(kitchen, fitted):
    """They were trained on other videos: on some that they would now answer as held-out ones."""
    for more in ("2", "4"):
        message = rf"holds a student with part 'inner fold 0 of 3', not 'inner fold 0 of {more}'"
        with pytest.raises(SystemExit, match=message):
            fit(kitchen, fitted, "--inner_folds", more)


def test_a_checkpoint_as_it_is_gets_a_reader_and_is_not_trained(kitchen, fitted, tmp_path):
    given = tmp_path / "checkpoint"
    shutil.copytree(fitted / "baseline_seed0", given)
    more = ["--features", kitchen / "features", "--output_dir", tmp_path / "run", "--inner_folds", 3, "--beam", 50]
    (tmp_path / "run.yaml").write_text((kitchen / "run.yaml").read_text() + "max_steps: 5\n")
    avt_distill("fit_reader", given, tmp_path / "run.yaml", *more)
    model = AVTForAnticipation.from_pretrained(tmp_path / "run" / "reader_seed42")
    before = AVTForAnticipation.from_pretrained(given).state_dict()
    assert all(model.state_dict()[name].equal(value) for name, value in before.items())
    assert model.config.reader["fusion_weights"] == [0.5, 0.5]
    card = (tmp_path / "run" / "reader_seed42" / "README.md").read_text()
    assert "so the pooling weights (student, reader) are equal" in card
    assert "and the pooling weights (student, reader) were chosen" not in card
    assert not (tmp_path / "run" / "inner").exists()
    np.testing.assert_allclose(
        scores(tmp_path / "run", "student", 42).scores, scores(fitted, "student").scores, atol=1e-5
    )
    np.testing.assert_array_equal(
        scores(tmp_path / "run", "reader_log-linear", 42).scores, scores(fitted, "reader_log-linear").scores
    )


def test_a_finished_checkpoint_that_was_distilled_is_not_listed_as_one_without_text(fitted, tmp_path):
    given = tmp_path / "checkpoint"
    shutil.copytree(fitted / "baseline_seed0", given)
    assert members.name_of_given(str(given)) == "student"
    results = read_json(given / "results.json")
    write_json(given / "results.json", {**results, "teacher": {"model": "bert"}})
    assert members.name_of_given(str(given)) == "distilled"
    assert members.name_of_given("user/checkpoint") == "student"  # on the Hub, whose records are not read


def test_a_checkpoint_of_other_actions_is_refused(kitchen, tmp_path):
    tiny_model(tiny_config(num_labels=4)).save_pretrained(tmp_path / "other")
    more = ["--features", kitchen / "features", "--output_dir", tmp_path / "run"]
    with pytest.raises(SystemExit, match="was trained on other actions than the data set's"):
        avt_distill("fit_reader", tmp_path / "other", kitchen / "run.yaml", *more)
    with pytest.raises(SystemExit, match="num_train_epochs is 0 without model_name_or_path"):
        fit(kitchen, tmp_path / "run", "--num_train_epochs", 0)


@pytest.mark.slow
def test_all_folds_of_ones_own_data(kitchen, tmp_path, capsys):
    """Folds are compared as text, because `fold: 1` is a number in YAML."""
    folder = shutil.copytree(kitchen, tmp_path / "data", ignore=shutil.ignore_patterns("cache"))
    lines = (folder / "segments.csv").read_text().splitlines()
    folded = [f"{lines[0]},fold", *(f"{line},{int(line[1]) % 2 + 1}" for line in lines[1:])]
    (folder / "segments.csv").write_text("\n".join(folded) + "\n")
    (folder / "run.yaml").write_text((folder / "run.yaml").read_text().replace(str(kitchen), str(folder)))
    fit(folder, tmp_path / "run", "--folds", "all", "--inner_folds", 2, "--transitions", "log-linear")
    assert "rows of 8 videos" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "run").glob("fold*")) == ["fold1", "fold2"]
    tables = [
        ScoreTable.load(tmp_path / "run" / fold / "reader" / f"scores_test_{STAYS}_seed0.parquet")
        for fold in ("fold1", "fold2")
    ]
    for fold in ("fold1", "fold2"):  # the card of each fold reports the comparison over all folds
        card = (tmp_path / "run" / fold / "reader_seed0" / "README.md").read_text()
        assert "actions of 8 videos in 2 folds, each answered by the models of its fold" in card
    assert {uid[:2] for uid in tables[0].uids} == {"v0", "v2", "v4", "v6"}
    assert {uid[:2] for uid in tables[1].uids} == {"v1", "v3", "v5", "v7"}


def test_every_path_that_a_fold_reads_may_have_its_name(kitchen, tmp_path):
    folder = shutil.copytree(kitchen, tmp_path / "data", ignore=shutil.ignore_patterns("cache"))
    lines = (folder / "segments.csv").read_text().splitlines()
    folded = [f"{lines[0]},fold", *(f"{line},{int(line[1]) % 2 + 1}" for line in lines[1:])]
    (folder / "segments.csv").write_text("\n".join(folded) + "\n")
    paths = {"features": "features/{fold}", "teacher": "teachers/{fold}", "language_model": "{fold}/bert"}
    given = {"dataset": folder, "folds": "all", "output_dir": tmp_path / "run", "use_cpu": "true", "num_frames": 4}
    options = [f"--{name}={value}" for name, value in {**given, **paths}.items()]
    trained = ["--soft_labels", "a/{fold}.parquet", "b.parquet"]
    as_it_is = ["--model_name_or_path={fold}/student", "--num_train_epochs=0", "--distill_weight=0"]
    for more in (trained, as_it_is):
        folds = fold_arguments(parse_run(ReaderArguments, [*options, *more], description=""))
        assert list(folds) == ["fold1", "fold2"]
        for name, args in folds.items():
            assert {option: getattr(args, option) for option in paths} == {
                option: path.replace("{fold}", name) for option, path in paths.items()
            }
            assert args.soft_labels == ([f"a/{name}.parquet", "b.parquet"] if more is trained else None)
            assert args.model_name_or_path == (None if more is trained else f"{name}/student")


def test_folds_are_refused_where_there_are_none(kitchen, tmp_path):
    with pytest.raises(SystemExit, match=r"folds is all, but .* has no folds: add a column fold"):
        fit(kitchen, tmp_path / "run", "--folds", "all")
    with pytest.raises(SystemExit, match="folds is '3'"):
        fit(kitchen, tmp_path / "run", "--folds", "3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--transitions", "copy"), "transitions has 'copy'"),
        (("--inner_folds", 1), "inner_folds is 1"),
        (("--num_last", 0), "num_last is 0"),
        (("--inner_folds", 7), "7 folds are requested: give 2 to 6"),
    ],
)
def test_options_out_of_range_are_refused(kitchen, tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        fit(kitchen, tmp_path / "run", *options)


def test_a_recognizer_wider_than_the_features_is_refused_before_students_are_trained(kitchen, tmp_path):
    with pytest.raises(SystemExit, match=r"recognizer_feature_dim is 1000, but features have \d+ columns"):
        fit(kitchen, tmp_path / "run", "--recognizer_feature_dim", 1000)
    assert not list(tmp_path.glob("run/*_seed0"))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for place in (tmp_path, "nowhere"):
        with pytest.raises(SystemExit, match=r"has no arguments.yaml and no config.json: give the output_dir"):
            avt_distill("fit_reader", place)


def test_a_data_set_after_a_run_is_not_replaced_by_that_of_the_run(tmp_path, monkeypatch):
    fitted_with = []
    monkeypatch.setattr("avt_distill.reader.run.fit_readers", lambda args: fitted_with.append(args) or "")
    options = {"dataset": "demo", "distill_weight": 0, "use_cpu": True, "output_dir": str(tmp_path)}
    write_json(tmp_path / "arguments.yaml", options)
    for words, expected in (([], "demo"), (["kitchen"], "kitchen"), (["--dataset", "kitchen"], "kitchen")):
        avt_distill("fit_reader", tmp_path, *words)
        assert fitted_with.pop().dataset == expected
    with pytest.raises(SystemExit, match=r"arguments\.yaml and other\.yaml are two YAML files"):
        avt_distill("fit_reader", tmp_path, "other.yaml")


@pytest.fixture(scope="module")
def video_kitchen(tmp_path_factory) -> Path:
    """Three videos to train on and one to validate on, of three actions each."""
    folder = tmp_path_factory.mktemp("videos") / "data"
    (folder / "videos").mkdir(parents=True)
    lines = ["video_id,start_s,end_s,action,split"]
    for video, split in enumerate(("train", "train", "train", "validation")):
        write_video(folder / "videos" / f"v{video}.mp4", numbered_frames(90))
        for number, action in enumerate(ACTIONS[:3]):
            lines.append(f"v{video},{2 + 2 * number},{3.5 + 2 * number},{action},{split}")
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    return folder


def of_videos(folder: Path, vit: Path, output: Path, recognizes_frames: bool):
    sizes = {"head_hidden_size": 32, "head_num_layers": 1, "head_num_positions": 16}
    sizes = json.dumps({**sizes, "recognizes_frames": recognizes_frames})
    given = ["--dataset", folder, "--num_frames", 3, "--tau_o", 3, "--cache_dir", folder / "cache"]
    given += ["--backbone", vit, "--processor_options", '{"size": 36, "crop_size": 32, "train_size": [36, 40]}']
    given += ["--model_options", sizes, "--num_train_epochs", 1, "--use_cpu", "true", "--distill_weight", 0]
    given += ["--output_dir", output, "--inner_folds", 3, "--beam", 20, "--reader_frame_rate", 2, "--seeds", 42, 43]
    avt_distill("fit_reader", *given)


@pytest.mark.parametrize("recognizes_frames", [True, False])
def test_students_of_videos_read_what_they_or_a_classifier_recognize(video_kitchen, tmp_path, recognizes_frames):
    vit = write_tiny_vit(tmp_path / "vit")
    of_videos(video_kitchen, vit, tmp_path / "run", recognizes_frames)
    rows = kitchen_builder(video_kitchen, num_frames=3, tau_o=3.0).rows("validation")
    for seed in (42, 43):
        folder = tmp_path / "run" / f"reader_seed{seed}"
        model = AVTForAnticipation.from_pretrained(folder)
        assert model.config.reader["frame_rate"] == 2
        anticipate = ActionAnticipationPipeline(model, video_processor=AVTVideoProcessor.from_pretrained(folder))
        table = scores(tmp_path / "run", STAYS, seed)
        for row in rows.itertuples():
            answers = {a["label"]: a["score"] for a in anticipate(row.video, at=row.observed_end_s, top_k=3)}
            measured = softmax(table.scores[table.uids.index(row.uid)])
            np.testing.assert_allclose([answers[name] for name in ACTIONS[:3]], measured, atol=1e-4)
    folder = tmp_path / "run" / "reader_seed42"
    assert 'video = "video.mp4"' in (folder / "README.md").read_text()
    logged = read_json(tmp_path / "run" / "baseline_seed42" / "results.json")["losses"]
    assert logged.get("evaluation_frame_loss", 0) > 0 if recognizes_frames else "evaluation_frame_loss" not in logged
