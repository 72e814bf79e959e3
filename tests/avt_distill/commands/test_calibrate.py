"""`calibrate`, from score files to a checkpoint whose answers are calibrated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import avt_distill, run_command
from tiny_kitchen import ACTIONS, write_kitchen

from avt_distill.evaluation.calibrating import fitted_calibration
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.features.stores import open_feature_store
from avt_distill.metrics import calibration_metrics, fit_temperature, softmax
from avt_distill.runs.folder import read_json
from avt_distill.sharing.cards import card_to_push, checkpoint_card
from avt_distill.sharing.metadata import Stated
from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation

VALIDATION, TEST = "scores_validation.parquet", "scores_test.parquet"


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    """Data of eight videos: the last two for testing, the two before them for validation."""
    folder = write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")
    lines = (folder / "segments.csv").read_text().splitlines()
    split_of = {"v4": "validation", "v5": "validation", "v6": "test", "v7": "test"}
    lines[1:] = [f"{line.rpartition(',')[0]},{split_of.get(line[:2], 'train')}" for line in lines[1:]]
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    return folder


def student_options(kitchen: Path, folder: Path) -> list:
    return ["--features", kitchen / "features", "--output_dir", folder, "--distill_weight", 0]


@pytest.fixture(scope="module")
def trained(kitchen, tmp_path_factory) -> Path:
    """A student with its scores on the validation and test splits, from the same weights."""
    folder = tmp_path_factory.mktemp("trained")
    avt_distill("distill", kitchen / "run.yaml", *student_options(kitchen, folder / "run"))
    student = folder / "run" / "baseline_seed42"
    own = (kitchen / "run.yaml").read_text().splitlines()
    (folder / "as_it_is.yaml").write_text("\n".join(line for line in own if "model_options" not in line))
    as_it_is = ["--model_name_or_path", student, "--num_train_epochs", 0, "--evaluation_split", "test"]
    avt_distill("distill", folder / "as_it_is.yaml", *student_options(kitchen, folder / "test"), *as_it_is)
    shutil.copy(folder / "test" / "baseline_seed42" / TEST, student / TEST)
    return student


@pytest.fixture
def student(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "student"))


def changed(student: Path, name: str = VALIDATION, *, leave_out: str = "", **changes) -> Path:
    """Writes a score file with changed columns or metadata, and returns its path."""
    table = ScoreTable.load(student / name)
    fields = {name: changes.pop(name, getattr(table, name)) for name in ("uids", "scores", "labels", "video_ids")}
    metadata = {key: value for key, value in {**table.metadata, **changes}.items() if key != leave_out}
    ScoreTable(metadata=metadata, **fields).save(student / "changed.parquet")
    return student / "changed.parquet"


def test_answers_have_the_temperature_of_held_out_videos(kitchen, student):
    before = json.loads((student / "config.json").read_text())
    result = run_command("calibrate", student, "--scores", student / VALIDATION, "--measure_on", student / TEST)
    assert result.returncode == 0, result.stderr
    validation, test = ScoreTable.load(student / VALIDATION), ScoreTable.load(student / TEST)
    temperature = fit_temperature(validation.scores, validation.labels)
    after = json.loads((student / "config.json").read_text())
    assert after.pop("calibration") == {"temperature": temperature}
    assert before.pop("calibration") is None
    assert after == before
    assert f"12 rows of 2 videos: temperature {temperature:.3f}; answers are never withheld" in result.stdout
    numbers = [calibration_metrics(scores, test.labels) for scores in (test.scores, test.scores / temperature)]
    for name in ("log_loss", "brier_score", "expected_calibration_error"):
        assert " -> ".join(f"{measured[name]:.2f}" for measured in numbers) in result.stdout
    store = open_feature_store(kitchen / "features")
    video = {"video_features": store.read_all("v6")[0], "frames_per_second": 1.0}
    answers = ActionAnticipationPipeline(AVTForAnticipation.from_pretrained(student))(video, at=22.0, top_k=4)
    found = {answer["label"]: answer["score"] for answer in answers}
    (row,) = [row for row, uid in enumerate(test.uids) if uid.startswith("v6_23")]
    np.testing.assert_allclose([found[name] for name in ACTIONS], softmax(test.scores[row] / temperature), atol=1e-5)
    assert "says" not in answers[0]


def test_an_error_rate_adds_a_threshold_and_the_card_has_the_numbers(student):
    given = ["--scores", student / VALIDATION, "--measure_on", student / TEST, "--error_rate", 0.9]
    result = run_command("calibrate", student, *given)
    assert result.returncode == 0, result.stderr
    table = ScoreTable.load(student / VALIDATION)
    expected = fitted_calibration(table.scores, table.labels, table.performances(), error_rate=0.9)
    assert AVTForAnticipation.from_pretrained(student).config.calibration == expected
    assert (expected["error_rate"], expected["delta"]) == (0.9, 0.1)
    assert "answered, for 90 % errors" in result.stdout
    card = (student / "README.md").read_text()
    assert card == str(checkpoint_card(student, "student")).rstrip("\n") + card[card.rindex("\n\n<!--") :]
    assert (
        f"calibrated on 12 actions of 2 videos, split `validation`: temperature {expected['temperature']:.3f}" in card
    )
    measured = read_json(student / "calibrated.json")["measured"]
    assert f"| this model | {measured['before']['log_loss']:.2f} / {measured['after']['log_loss']:.2f} |" in card
    assert "they were not calibrated" not in card
    again = run_command("calibrate", student, "--scores", student / VALIDATION)
    assert again.returncode == 0, again.stderr
    assert AVTForAnticipation.from_pretrained(student).config.calibration == {"temperature": expected["temperature"]}


def test_a_calibrated_checkpoint_keeps_the_repository_and_the_note_of_its_card(student):
    card_to_push(student, "user/kitchen", stated=Stated(license="mit", leak_note="Kitchens repeat."), overwrite=True)
    assert run_command("calibrate", student, "--scores", student / VALIDATION).returncode == 0
    card = (student / "README.md").read_text()
    assert "temperature" in card
    assert "\n# kitchen\n" in card
    assert '.from_pretrained("user/kitchen"' in card
    assert "- Kitchens repeat." in card
    assert "license: mit" in card


def test_a_threshold_that_is_not_found_is_reported(student):
    result = run_command("calibrate", student, "--scores", student / VALIDATION, "--error_rate", 0.01)
    assert "no threshold keeps 1 % errors with confidence, so every answer will be withheld" in result.stdout
    assert AVTForAnticipation.from_pretrained(student).config.calibration["threshold"] is None


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"split": "train"}, [], "has scores of the split 'train', which .* learned from"),
        ({"label_space_hash": "0123"}, [], "scores of 4 actions of label space 0123, but .* answers with 4 of"),
        ({"scores": np.eye(12, 5)}, [], "has scores of 5 actions"),
        ({"labels": np.array([-100] * 2 + [0] * 10)}, [], "has 2 rows without a label, of 12"),
        ({"weights": "0123"}, ["--unchecked"], "has scores of other weights than those of"),
        ({"leave_out": "weights"}, [], "does not record which weights gave its scores"),
        ({"leave_out": "split"}, [], "does not record which split its rows are of"),
        ({"config_name": "fold2"}, [], "has scores of config_name 'fold2', but .* was measured on"),
        ({"video_ids": None}, ["--error_rate", 0.2], "has no column video_id"),
        ({"uids": [f"a{row}" for row in range(11)] + ["v4_3.000"]}, ["--measure_on", VALIDATION], "has 'v4_3.000'"),
        ({}, ["--measure_on", "changed.parquet"], "which the calibration is fitted to"),
        ({}, ["--error_rate", 1.5], "--error_rate is 1.5: give a share between 0 and 1"),
    ],
)
def test_scores_that_do_not_fit_the_checkpoint_are_refused(student, changes, options, message):
    before = {path.name: path.read_bytes() for path in student.iterdir()}
    path = changed(student, **changes)
    result = run_command("calibrate", student, "--scores", path, *options, folder=student)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    with pytest.raises(SystemExit, match=message):
        avt_distill("calibrate", student, "--scores", path, *_in(student, options))
    path.unlink()
    assert {path.name: path.read_bytes() for path in student.iterdir()} == before


def _in(student: Path, options: list) -> list:
    return [student / word if str(word).endswith(".parquet") else word for word in options]


def test_scores_without_a_record_are_accepted_unchecked(student):
    path = changed(student, leave_out="weights")
    avt_distill("calibrate", student, "--scores", path, "--unchecked")
    assert AVTForAnticipation.from_pretrained(student).config.calibration is not None


def test_a_calibration_is_not_kept_by_a_student_that_is_trained_further(kitchen, student, tmp_path):
    avt_distill("calibrate", student, "--scores", student / VALIDATION)
    own = (kitchen / "run.yaml").read_text().splitlines()
    (tmp_path / "further.yaml").write_text("\n".join(line for line in own if "model_options" not in line))
    further = ["--model_name_or_path", student, "--max_steps", 1]
    avt_distill("distill", tmp_path / "further.yaml", *student_options(kitchen, tmp_path / "run"), *further)
    assert AVTForAnticipation.from_pretrained(tmp_path / "run" / "baseline_seed42").config.calibration is None


def test_combined_answers_of_student_and_reader_are_calibrated(kitchen, tmp_path):
    run = tmp_path / "run"
    fitted = ["--inner_folds", 2, "--beam", 50]
    avt_distill("fit_reader", kitchen / "run.yaml", *student_options(kitchen, run), *fitted)
    checkpoint, of_both = run / "reader_seed42", run / "reader" / "scores_validation_student_+_reader_log-linear_seed42"
    with pytest.raises(SystemExit, match=r"scores of other weights .* of student and reader together"):
        avt_distill("calibrate", checkpoint, "--scores", run / "baseline_seed42" / VALIDATION)
    config = AVTForAnticipation.from_pretrained(checkpoint).config
    avt_distill("calibrate", checkpoint, "--scores", f"{of_both}.parquet", "--error_rate", 0.9)
    table, model = ScoreTable.load(f"{of_both}.parquet"), AVTForAnticipation.from_pretrained(checkpoint)
    expected = fitted_calibration(table.scores, table.labels, table.performances(), error_rate=0.9)
    assert model.reader.settings.calibration == expected
    assert model.config.calibration == config.calibration
    assert "Its probabilities were calibrated on 12 actions" in (checkpoint / "README.md").read_text()
