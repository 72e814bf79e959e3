"""Cards of students, teachers and data sets: filled from result files, and never with holes."""

import json

import pytest
import yaml
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_model
from huggingface_hub import DatasetCardData
from tiny_kitchen import kitchen_builder, write_kitchen

from avt_distill.sharing.cards import checkpoint_card, dataset_card, student_card, teacher_card

METRICS = {
    "action_top1_accuracy": 41.25,
    "action_class_mean_top1_recall": 40.5,
    "action_top5_accuracy": 80.0,
    "action_class_mean_top5_recall": 79.125,
}
SCORES = {
    "label_space_hash": "0",
    "dataset": "EGTEA Gaze+",
    "config_name": "split1",
    "protocol": "exact",
    "num_frames": "4",
    "frame_rate": "1.0",
    "tau_a": "0.5",
    "tau_o": "4.0",
    "split": "validation",
}
TEACHER = {"model": "bert_recipes", "cross_fit": "5", "history_cutoff": "started", "tau_a": "0.5"}
RESULTS = {
    "scores": SCORES,
    "metrics": METRICS,
    "losses": {},
    "seed": 3,
    "num_rows": 100,
    "num_training_rows": 800,
    "num_rows_without_teacher": 0,
    "teacher": TEACHER,
    "num_parameters": 12345,
    "epochs": 2.0,
    "steps": 50,
    "training_s": 12.5,
    "num_processes": 2,
    "device": "cpu",
}
SETTINGS = {"learning_rate": 0.001, "distill_weight": 1.5, "distill_temperature": 2.0, "features": "/somewhere/tsn"}
MEASURES = ("top-1 accuracy", "class-mean top-1 recall", "top-5 accuracy", "class-mean top-5 recall")
COMPARISON = {
    "seeds": [3, 4],
    "rows": [
        {
            "measure": f"action {measure}",
            "baseline": 40.0,
            "candidate": 42.5,
            "difference": 2.5,
            "p_value": 0.0125,
            "seeds": {"low": 0.5, "high": 4.5},
        }
        for measure in MEASURES
    ],
}


@pytest.fixture
def student(tmp_path):
    tiny_model(tiny_config()).save_pretrained(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def header(card) -> dict:
    return yaml.safe_load(str(card).split("---")[1])


def test_the_model_index_holds_what_was_measured(student):
    data = header(student_card(student, "user/kitchen"))
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "video-classification"
    assert {"custom_code", "knowledge-distillation"} <= set(data["tags"])
    (model,) = data["model-index"]
    (result,) = model["results"]
    assert model["name"] == "kitchen"
    about = {"name": "EGTEA Gaze+, split1", "type": "egtea-gaze+", "config": "split1", "split": "validation"}
    assert result["dataset"] == {**about, "args": {"protocol": "exact", "tau_a": "0.5"}}
    assert {metric["args"]["seed"] for metric in result["metrics"]} == {3}
    assert [metric["value"] for metric in result["metrics"]] == [41.25, 40.5, 80.0, 79.12]


def test_numbers_stand_beside_the_baselines(student):
    data = header(student_card(student, "user/kitchen", comparison=COMPARISON))
    of_top1 = data["model-index"][0]["results"][0]["metrics"][0]["args"]
    gain = {"low": 0.5, "mean": 2.5, "high": 4.5}
    assert of_top1 == {"seed": 3, "compared_seeds": [3, 4], "without_teacher": 40.0, "gain": gain}
    text = str(student_card(student, "user/kitchen", comparison=COMPARISON))
    assert "| Top-1 accuracy | 41.25 | 40.00 | 42.50 | +2.50 [+0.50, +4.50] | 0.0125 |" in text
    assert "2 seeds (3, 4)" in text
    assert "not compared" in str(student_card(student, "user/kitchen"))


def test_the_card_says_how_the_teacher_was_made(student):
    assert "Cross-fitted in 5 folds" in str(student_card(student, "user/kitchen"))
    leaking = {**RESULTS, "teacher": {**TEACHER, "cross_fit": "0", "history_cutoff": "segment_start"}}
    (student / "results.json").write_text(json.dumps(leaking))
    text = str(student_card(student, "user/kitchen"))
    assert "labelled the videos that it was trained on" in text
    assert "less than `tau_a` before" in text


def test_no_path_of_the_machine_is_in_a_card(student):
    text = str(student_card(student, "user/kitchen"))
    assert "/somewhere" not in text
    assert str(student) not in text
    assert "width 12 from: tsn" in text


@pytest.mark.parametrize("missing", ["num_training_rows", "seed", "training_s"])
def test_a_missing_number_is_an_error_and_not_a_blank(student, missing):
    (student / "results.json").write_text(json.dumps({k: v for k, v in RESULTS.items() if k != missing}))
    with pytest.raises(ValueError, match=f"'{missing}'"):
        student_card(student, "user/kitchen")


def test_a_folder_that_was_not_measured_has_no_card(student):
    (student / "results.json").unlink()
    with pytest.raises(ValueError, match=r"results\.json is missing"):
        student_card(student, "user/kitchen")


def test_a_baseline_is_not_called_distilled(student):
    (student / "results.json").write_text(json.dumps({**RESULTS, "teacher": None}))
    card = student_card(student, "user/kitchen")
    assert "knowledge-distillation" not in header(card)["tags"]
    assert "distillation" not in str(card).lower()


MEMBERS = {"student + probe": 40.0, "reader, unigram": 30.0, "distilled + reader, bigram": 44.5, "true history": 68.0}
READER_COMPARISON = {
    "num_rows": 300,
    "num_videos": 9,
    "seeds": [3, 4],
    "reference": "student + probe",
    "metrics": {name: {"top-1": top1, "log loss": 1.5} for name, top1 in MEMBERS.items()},
    "comparisons": {
        name: {"difference": top1 - 40.0, "over_videos": {"low": -1.0, "high": 9.0, "p_value": 0.0125}}
        for name, top1 in MEMBERS.items()
        if name != "student + probe"
    },
    "chosen": {"fold1": {}, "fold2": {}},
}


@pytest.fixture
def reader(student):
    """A student with its reader, in a run whose students were compared."""
    folder = student / "reader_seed3"
    model = reading_model()
    model.save_pretrained(folder)
    results = {**RESULTS, "scores": {**SCORES, "model": "distilled + reader, bigram"}}
    for name, content in {
        "reader_seed3/results.json": results,
        "reader_seed3/settings.json": SETTINGS,
        "reader_seed3/reader_comparison.json": READER_COMPARISON,
        "comparison.json": COMPARISON,
    }.items():
        (student / name).write_text(json.dumps(content))
    return folder


def test_a_readers_card_tells_three_uses_of_text_apart(reader):
    text = str(checkpoint_card(reader, "user/reader"))
    for kind in ("- **distilled**: the paper's method", "- **read**: this project's method", "- **true history**:"):
        assert kind in text
    assert "| student + probe | none | 40.00 | 1.50 |  |  |" in text
    assert "| reader, unigram | none | 30.00 | 1.50 | -10.00 [-1.00, +9.00] | 0.0125 |" in text
    assert "| **distilled + reader, bigram** | **distilled, read** | **44.50** | **1.50** | **+4.50 [-1.00" in text
    assert "| true history | true history | 68.00 |" in text
    assert "300 actions of 9 videos in 2 folds" in text
    assert "| fusion_weights | 0.500, 0.500 |" in text
    assert "at=12.0, reader=False)" in text
    assert "without teacher, mean" not in text


def test_cards_of_students_do_not_speak_of_readers(student):
    assert "reader" not in str(student_card(student, "user/kitchen"))


@pytest.mark.parametrize("missing", ["num_videos", "reference", "chosen", "comparisons"])
def test_a_readers_card_has_no_holes(reader, missing):
    file = reader / "reader_comparison.json"
    file.write_text(json.dumps({k: v for k, v in READER_COMPARISON.items() if k != missing}))
    with pytest.raises(ValueError, match=f"'{missing}'"):
        checkpoint_card(reader, "user/reader")
    file.unlink()
    with pytest.raises(ValueError, match=r"reader_comparison\.json is missing"):
        checkpoint_card(reader, "user/reader")


def test_a_comparison_of_other_readers_is_refused(reader):
    file = reader / "reader_comparison.json"
    file.write_text(file.read_text().replace("bigram", "trigram"))
    with pytest.raises(ValueError, match=r"has no 'distilled [+] reader, bigram', of which the card is"):
        checkpoint_card(reader, "user/reader")


TEACHER_FILES = {
    "config.json": {
        "model_type": "text_teacher",
        "backbone_config": {"model_type": "bert"},
        "action_texts": ["cut egg", "mix oil"],
        "history_length": 15,
        "text_form": "natural",
        "newest_first": True,
        "history_cutoff": "started",
    },
    "results.json": {
        "num_rows": 100,
        "training_s": 12.5,
        "scores": SCORES | {"model": "teacher", "history_cutoff": "started"},
        "metrics": {"teacher": METRICS, "bigram": dict.fromkeys(METRICS, 12.5)},
    },
    "training.json": {
        "videos": ["a", "b"],
        "num_rows": 80,
        "held_out_videos": ["c"],
        "num_held_out_rows": 9,
        "epochs": 3.0,
    },
    "settings.json": {
        "model_name_or_path": "/somewhere/bert_recipes",
        "random_weights": False,
        "learning_rate": 1e-3,
        "seed": 7,
    },
}


def write_teacher(folder, files: dict):
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_a_teacher_stands_beside_counts(tmp_path):
    card = teacher_card(write_teacher(tmp_path, TEACHER_FILES), "user/bert")
    assert [metric["value"] for metric in header(card)["model-index"][0]["results"][0]["metrics"]] == [
        41.25,
        40.5,
        80,
        79.12,
    ]
    text = str(card)
    assert "| this model | 41.25 | 80.00 | 40.50 | 79.12 |" in text
    assert "| bigram | 12.50 |" in text
    assert "bert_recipes (bert)" in text
    assert "from the newest to the oldest" in text
    assert "/somewhere" not in text
    assert "1 videos (9 actions) were held out" in text
    assert "less than `tau_a` before" not in text


def test_a_teachers_card_says_that_histories_know_the_gap(tmp_path):
    files = {**TEACHER_FILES, "config.json": {**TEACHER_FILES["config.json"], "history_cutoff": "segment_start"}}
    assert "less than `tau_a` before" in str(teacher_card(write_teacher(tmp_path, files), "user/bert"))


@pytest.mark.parametrize(("file", "missing"), [("results.json", "training_s"), ("training.json", "epochs")])
def test_a_teachers_card_has_no_holes(tmp_path, file, missing):
    left = {name: value for name, value in TEACHER_FILES[file].items() if name != missing}
    with pytest.raises(ValueError, match=missing):
        teacher_card(write_teacher(tmp_path, {**TEACHER_FILES, file: left}), "user/bert")


def test_a_data_sets_card_counts_what_was_built(tmp_path):
    builder = kitchen_builder(write_kitchen(tmp_path / "data"), history_cutoff="segment_start")
    builder.download_and_prepare()
    text = str(dataset_card({"default": builder.facts()}, "user/kitchen", DatasetCardData()))
    assert "| default | train | 36 | 6 | 0 |\n| default | validation | 12 | 2 | 0 |" in text
    assert "| default | 1.0 | 4.0 | 4 | 1.0 | exact | segment_start |" in text
    assert "A configuration here has `segment_start`" in text
    assert "cut_tomato, open_fridge" in text
    assert str(tmp_path) not in text


HOSTILE = "<script>alert(1)</script> | `x`\n\n# [link](javascript:x) \x1b[2J"


def test_names_in_cards_are_text_and_nothing_else(student):
    config = json.loads((student / "config.json").read_text())
    config["id2label"]["0"] = HOSTILE
    (student / "config.json").write_text(json.dumps(config))
    (student / "settings.json").write_text(json.dumps({**SETTINGS, "optim": HOSTILE, "features": f"/x/{HOSTILE[:12]}"}))
    text = str(student_card(student, "user/kitchen"))
    body = text.split("---", 2)[2]
    assert "<script" not in body
    assert "\x1b" not in body
    assert "](javascript" not in body
    assert "\n# [" not in body
    shown = "&lt;script&gt;alert(1)&lt;/script&gt; &#124; &#96;x&#96; &#35; [link&#93;(javascript:x) &#92;u001b[2J"
    assert shown in body
    assert f"| optim | {shown} |" in body
