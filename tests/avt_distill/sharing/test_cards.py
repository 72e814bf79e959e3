"""Cards of students, teachers and data sets: filled from result files, never with missing values."""

import json

import pytest
import yaml
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_model
from huggingface_hub import DatasetCard, DatasetCardData, ModelCard
from tiny_kitchen import kitchen_builder, write_kitchen

from avt_distill.sharing.cards import card_to_push, checkpoint_card, dataset_card, student_card, teacher_card
from avt_distill.sharing.hub import check_checkpoint
from avt_distill.sharing.metadata import NOTHING, Stated, repository_in

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
    about = {"name": "EGTEA Gaze+, split1", "type": "egtea-gaze-plus", "config": "split1", "split": "validation"}
    assert result["dataset"] == {**about, "args": {"protocol": "exact", "tau_a": "0.5"}}
    assert {metric["args"]["seed"] for metric in result["metrics"]} == {3}
    assert [metric["value"] for metric in result["metrics"]] == [41.25, 40.5, 80.0, 79.12]


def test_a_students_card_compares_it_with_baselines(student):
    data = header(student_card(student, "user/kitchen", comparison=COMPARISON))
    of_top1 = data["model-index"][0]["results"][0]["metrics"][0]["args"]
    gain = {"low": 0.5, "mean": 2.5, "high": 4.5}
    assert of_top1 == {"seed": 3, "compared_seeds": [3, 4], "without_teacher": 40.0, "gain": gain}
    text = str(student_card(student, "user/kitchen", comparison=COMPARISON))
    assert "| Top-1 accuracy | 41.25 | 40.00 | 42.50 | +2.50 [+0.50, +4.50] | 0.0125 |" in text
    assert "2 seeds (3, 4)" in text
    numbers = {"baseline": 1.25, "candidate": 1.125, "difference": -0.125, "p_value": 0.02}
    log_loss = {"measure": "log loss", **numbers, "low": -1, "high": 1, "seeds": {"low": -0.25, "high": 0.0}}
    text = str(student_card(student, "user/kitchen", comparison={**COMPARISON, "calibration": [log_loss]}))
    assert "| Log loss, nats |  | 1.250 | 1.125 | -0.125 [-0.250, +0.000] | 0.0200 |" in text
    assert "not compared" in str(student_card(student, "user/kitchen"))


def test_a_card_says_how_far_sequences_are_from_what_was_done(student):
    assert "as a sequence" not in str(student_card(student, "user/kitchen"))
    horizons = {"num_actions": 5, "edit_distance": 0.614, "edit_distance_of_samples": 0.5851, "top1": [40.0] * 5}
    (student / "results.json").write_text(json.dumps(RESULTS | {"horizons": horizons}))
    card = str(student_card(student, "user/kitchen"))
    assert "The next 5 actions as a sequence: edit distance (0 to 1, the least of five sequences) 0.61" in card
    assert "0.59 with samples" in card


def test_the_card_says_how_the_teacher_was_made(student):
    assert "Cross-fitted in 5 folds" in str(student_card(student, "user/kitchen"))
    leaking = {**RESULTS, "teacher": {**TEACHER, "cross_fit": "0", "history_cutoff": "segment_start"}}
    (student / "results.json").write_text(json.dumps(leaking))
    text = str(student_card(student, "user/kitchen"))
    assert "labeled the videos that it was trained on" in text
    worded = {**TEACHER, "model": "log-linear", "language_model": "MiniLM", "balance": "0.5"}
    (student / "results.json").write_text(json.dumps({**RESULTS, "teacher": worded}))
    of_words = str(student_card(student, "user/kitchen"))
    assert (
        "The teacher: log-linear, which reads the names of actions with MiniLM; its probabilities were divided by the "
        "frequencies of actions to the power of 0.5. Cross-fitted in 5 folds"
    ) in of_words
    assert "less than `tau_a` before" in text


@pytest.mark.parametrize(
    ("cross_fit", "stated"),
    [
        ("4, 5", "Cross-fitted in 4 and 5 folds: each video was labeled by a teacher that was not trained on it."),
        ("0, 5", "Its members were cross-fitted in these numbers of folds: 0, 5. One with 0 folds labeled the videos"),
        ("unknown, 4", "Its members were cross-fitted in these numbers of folds: unknown, 4."),
        (None, "It labeled the videos that it was trained on, unless it was not trained at all."),
    ],
)
def test_cross_fitted_teachers_of_other_numbers_of_folds_are_not_said_to_label_their_own_videos(
    student, cross_fit, stated
):
    (student / "results.json").write_text(json.dumps({**RESULTS, "teacher": {**TEACHER, "cross_fit": cross_fit}}))
    text = str(student_card(student, "user/kitchen"))
    assert stated in text
    assert ("It labeled the videos" in text) == (cross_fit is None)


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_header_is_what_the_library_reads_and_writes(student, tmp_path):
    stated = Stated(license="mit", dataset="user/egtea")
    card = student_card(student, "user/kitchen", comparison=COMPARISON, stated=stated)
    card.save(tmp_path / "README.md")
    loaded = ModelCard.load(tmp_path / "README.md")
    assert str(loaded) == str(card)
    assert loaded.data.to_dict() == card.data.to_dict()
    assert (loaded.data.license, loaded.data.datasets) == ("mit", ["user/egtea"])
    assert {result.dataset_type for result in loaded.data.eval_results} == {"user/egtea"}
    assert loaded.data.metrics == ["accuracy", "recall"]


def test_a_license_is_the_one_that_is_stated_and_none_is_invented(student):
    card = student_card(student, "user/kitchen")
    assert "license" not in header(card)
    assert "No license is stated" in str(card)
    card = student_card(student, "user/kitchen", stated=Stated(license="mit"))
    assert header(card)["license"] == "mit"
    assert "## License\n\n`mit`\n" in str(card)
    card.save(student / "README.md")
    assert header(student_card(student, "user/kitchen"))["license"] == "mit"
    named = Stated(license="other", license_name="research [only]", license_link="LICENSE")
    card = student_card(student, "user/kitchen", stated=named)
    assert header(card)["license_name"] == "research [only]"
    assert "[research [only]](LICENSE)" in str(card)


def test_a_students_base_model_is_where_its_weights_or_features_are_from(student):
    def base() -> tuple:
        data = header(student_card(student, "user/kitchen"))
        return data.get("base_model"), data.get("base_model_relation")

    assert base() == (None, None)
    encoder = {"model": "facebook/dinov2-base", "revision": "0" * 40}
    rewrite(student / "config.json", feature_encoder=encoder)
    assert base() == ("facebook/dinov2-base", "adapter")
    rewrite(student / "config.json", feature_encoder={**encoder, "revision": "0" * 16})  # a local folder with that name
    assert base() == (None, None)
    rewrite(student / "settings.json", backbone="google/vit", backbone_content={})
    rewrite(student / "config.json", backbone_config={"model_type": "vit"})
    assert base() == ("google/vit", "finetune")
    rewrite(student / "settings.json", backbone="runs/vit", backbone_content={"model.safetensors": "0"})
    assert base() == (None, None)
    card = student_card(student, "user/kitchen", stated=Stated(base_model="user/vit"))
    assert (header(card)["base_model"], header(card)["base_model_relation"]) == ("user/vit", "finetune")
    assert "started from [user/vit](https://huggingface.co/user/vit)" in str(card)


def test_a_student_with_its_encoder_starts_from_it(student):
    rewrite(student / "config.json", backbone_config={"model_type": "vit"})
    attached = {"student": "x", "encoder": "google/vit", "num_rows": 8, "difference": 1e-4}
    (student / "attached.json").write_text(json.dumps(attached))
    data = header(student_card(student, "user/kitchen"))
    assert (data["base_model"], data["base_model_relation"]) == ("google/vit", "finetune")
    rewrite(student / "attached.json", encoder="vit")
    assert "base_model" not in header(student_card(student, "user/kitchen"))


def test_data_is_named_where_it_has_a_name(student):
    assert header(student_card(student, "user/kitchen"))["datasets"] == ["egtea-gaze-plus"]
    card = student_card(student, "user/kitchen", stated=Stated(dataset="user/egtea"))
    assert header(card)["datasets"] == ["user/egtea"]
    assert "split1 ([user/egtea](https://huggingface.co/datasets/user/egtea)), split `validation`" in str(card)
    own = {**SCORES, "dataset": "Videos of one's own", "config_name": "default"}
    rewrite(student / "results.json", scores=own)
    card = student_card(student, "user/kitchen")
    assert "datasets" not in header(card)
    assert "Videos of one's own, split `validation`" in str(card)


def test_no_path_of_the_machine_is_in_a_card(student):
    text = str(student_card(student, "user/kitchen"))
    assert "/somewhere" not in text
    assert str(student) not in text
    assert "width 12 from: tsn" in text
    assert "Needs Python 3.10, torch 2.6, transformers 4.57 and numpy 1.26 or newer.\n" in text  # no videos, so no av


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


@pytest.mark.parametrize("of_another", ["student", "command", "seed", "split"])
def test_a_comparison_of_other_models_is_not_in_the_card(student, of_another):
    """A baseline has no gain from a teacher, and `compare_runs` may have written a file of the same name."""
    folder, content, results = student / "distilled_seed3", {**COMPARISON, "split": "validation"}, RESULTS
    tiny_model(tiny_config()).save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    (student / "comparison.json").write_text(json.dumps(content))
    assert "2 seeds (3, 4) for this student" in str(checkpoint_card(folder, "user/kitchen"))
    if of_another == "student":
        (folder / "results.json").write_text(json.dumps({**results, "teacher": None}))
    else:
        changed = {"seed": {"seeds": [4, 5]}, "split": {"split": "test"}, "command": {"seed": 0, "seeds": None}}
        changed = {**content, **changed[of_another]}
        kept = {name: value for name, value in changed.items() if value is not None}
        (student / "comparison.json").write_text(json.dumps(kept))
    card = checkpoint_card(folder, "user/kitchen")
    assert header(card)["model-index"][0]["results"][0]["metrics"][0]["args"] == {"seed": 3}
    assert "without teacher, mean" not in str(card)
    assert ("It was not compared" in str(card)) == (of_another != "student")


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


def test_a_readers_card_distinguishes_three_uses_of_text(reader):
    text = str(checkpoint_card(reader, "user/reader"))
    for kind in ("- **distilled**: the paper's method", "- **read**: this project's method", "- **true history**:"):
        assert kind in text
    assert "| student + probe | none | 40.00 | 1.50 |  |  |" in text
    assert "| reader, unigram | none | 30.00 | 1.50 | -10.00 [-1.00, +9.00] | 0.0125 |" in text
    assert "| **distilled + reader, bigram** | **distilled, read** | **44.50** | **1.50** | **+4.50 [-1.00" in text
    assert "| true history | true history | 68.00 |" in text
    assert "300 actions of 9 videos in 2 folds" in text
    assert "weighted 0.500 and 0.500" in text
    assert "at=12.0, reader=False)" in text
    assert "without teacher, mean" not in text


def test_a_readers_card_says_what_the_reader_reads(reader):
    text = str(checkpoint_card(reader, "user/reader"))
    assert "each frame, at 2.0 per second from the beginning of the video, as one of the 3 actions or as none" in text
    assert "the history that it recognized in the same video, with its errors. It is given no text" in text
    assert "a log-linear model, which reads the last action and the set of all others." in text
    assert "the 200 likeliest histories are kept" in text
    assert "of the student and of the reader, weighted 0.500 and 0.500." in text
    config = json.loads((reader / "config.json").read_text())
    shown = {
        ("ngram", 1): "unigram counts of the training videos, which read no past action.",
        ("ngram", 3): "trigram counts of the training videos, which read the last 2 actions.",
        ("log_linear", 2): "which reads the last 2 actions in their order and the set of all others.",
    }
    for (kind, size), words in shown.items():
        transitions = {"kind": kind, "order" if kind == "ngram" else "length": size}
        rewrite(reader / "config.json", reader={**config["reader"], "transitions": transitions})
        assert words in str(checkpoint_card(reader, "user/reader"))


def test_a_reader_of_a_teacher_says_so(reader):
    for name in ("results.json", "reader_comparison.json"):
        (reader / name).write_text((reader / name).read_text().replace("reader, bigram", "reader, teacher"))
    assert "a log-linear model, distilled from a text teacher, which reads" in str(checkpoint_card(reader, "user/x"))


@pytest.mark.parametrize(("content", "message"), [("[]", "holds a list and is not"), ("{}", r"lacks \['model_type'\]")])
def test_a_configuration_that_is_none_is_refused_in_one_sentence(student, content, message):
    (student / "config.json").write_text(content)
    for refuse in (lambda: checkpoint_card(student, "user/kitchen"), lambda: check_checkpoint(student)):
        with pytest.raises(ValueError, match=rf"config\.json {message}"):
            refuse()


def test_a_second_push_keeps_the_note_of_the_first(student):
    note = "Kitchens of the *test* videos are in the training set."
    card_to_push(student, "user/kitchen", stated=Stated(leak_note=note))
    first = (student / "README.md").read_text()
    assert f"\n- {note}<!-- leak note -->\n" in first
    card_to_push(student, "user/kitchen", stated=NOTHING)
    assert (student / "README.md").read_text() == first
    card_to_push(student, "user/other", stated=Stated(leak_note="None."))
    text = (student / "README.md").read_text()
    assert note not in text
    assert "\n- None.<!-- leak note -->\n" in text
    assert repository_in(student / "README.md", default="run") == "user/other"


@pytest.mark.parametrize("folder", ["student", "reader"])
def test_a_card_says_which_answers_are_withheld(folder, request):
    folder = request.getfixturevalue(folder)
    config = json.loads((folder / "config.json").read_text())

    def card(**calibration) -> str:
        changed = {"calibration": {"temperature": 1.0, **calibration}}
        rewrite(folder / "config.json", **({"reader": config["reader"] | changed} if config["reader"] else changed))
        return str(checkpoint_card(folder, "user/kitchen"))

    always = "a video without any of these actions also gets an answer"
    assert always in card()
    assert "withheld" not in card()
    text = card(error_rate=0.2, threshold=0.5346, delta=0.1)
    assert "Answers with a probability below 0.535 are withheld, so that at most 20 % of the given answers" in text
    assert "with a confidence of 90 % over videos" in text
    assert always not in text
    assert "a video without any of these actions can also get an answer" in text
    text = card(error_rate=0.01, threshold=None, delta=0.1)
    assert "No threshold keeps 1 % errors with confidence, so every answer is withheld." in text
    assert always not in text


def test_cards_of_students_do_not_speak_of_readers(student):
    assert "reader" not in str(student_card(student, "user/kitchen"))


MEASURED = {
    moment: {"log_loss": loss, "brier_score": 0.5, "expected_calibration_error": 3.0}
    for moment, loss in (("before", 1.75), ("after", 1.25))
}


def test_a_calibration_that_was_replaced_is_not_in_a_readers_card(reader):
    config = json.loads((reader / "config.json").read_text())
    of_fitting = {"student + probe": MEASURED, "distilled + reader, bigram": MEASURED}
    rewrite(reader / "reader_comparison.json", calibration=of_fitting)
    rewrite(reader / "config.json", reader={**config["reader"], "calibration": {"temperature": 1.5}})
    row = "| distilled + reader, bigram | 1.75 / 1.25 |"
    assert row in str(checkpoint_card(reader, "user/reader"))
    record = {"scores": "s.parquet", "num_rows": 12, "num_videos": 2, "split": "validation", "measured": None}
    (reader / "calibrated.json").write_text(json.dumps({**record, "calibration": {"temperature": 2.0}}))
    assert row in str(checkpoint_card(reader, "user/reader"))  # the reader was fitted again afterwards
    rewrite(reader / "config.json", reader={**config["reader"], "calibration": {"temperature": 2.0}})
    text = str(checkpoint_card(reader, "user/reader"))
    assert row not in text
    assert "| student + probe | 1.75 / 1.25 |" in text
    assert "calibrated on 12 actions of 2 videos, split `validation`: temperature 2.000" in text


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
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
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


def test_a_teachers_card_compares_it_with_counts(tmp_path):
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
    assert "1 video (9 actions) was held out" in text
    assert "less than `tau_a` before" not in text


def test_a_teachers_card_says_where_it_starts_and_what_it_needs(tmp_path):
    folder = write_teacher(tmp_path, TEACHER_FILES)
    card = teacher_card(folder, "user/bert")
    assert "base_model" not in header(card)  # it was a local folder
    assert header(card)["datasets"] == ["egtea-gaze-plus"]
    needs = "Needs torch and transformers 4.57 or newer; made and measured with torch 2.13.0 and transformers 5.23.0."
    assert needs in str(card)
    on_hub = {"model_name_or_path": "google-bert/bert-base-uncased", "model_content": {}}
    rewrite(folder / "settings.json", **on_hub)
    card = teacher_card(folder, "user/bert", stated=Stated(license="apache-2.0"))
    shown = {name: header(card)[name] for name in ("base_model", "base_model_relation", "license")}
    assert list(shown.values()) == ["google-bert/bert-base-uncased", "finetune", "apache-2.0"]
    rewrite(folder / "settings.json", random_weights=True)
    assert "base_model" not in header(teacher_card(folder, "user/bert"))


ADAPTED = {
    "before": {"perplexity": 80.0, "predicted_tokens": 900},
    "after": {"perplexity": 7.125, "predicted_tokens": 900},
    "before_is_of": "the head that it came with",
    "recipes": {"train": 950, "held_out": 50},
    "training": {"steps": 1000},
    "arguments": {"model_name_or_path": "google-bert/bert-base-uncased", "recipes": "/somewhere/recipes.jsonl.gz"},
    "decisive": {"model_content": {}},
    "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0"},
}


@pytest.mark.parametrize(
    ("architecture", "task", "auto_class"),
    [
        ("BertForMaskedLM", "fill-mask", "AutoModelForMaskedLM"),
        ("GPT2LMHeadModel", "text-generation", "AutoModelForCausalLM"),
    ],
)
def test_a_language_models_card_is_whole(tmp_path, architecture, task, auto_class):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x", "architectures": [architecture]}))
    (tmp_path / "adaptation.json").write_text(json.dumps(ADAPTED))
    card = checkpoint_card(tmp_path, "user/lm", stated=Stated(license="mit"))
    data = header(card)
    assert (data["pipeline_tag"], data["license"], data["base_model_relation"]) == (task, "mit", "finetune")
    assert data["base_model"] == "google-bert/bert-base-uncased"
    assert "datasets" not in data
    (result,) = ModelCard(str(card)).data.eval_results
    assert (result.task_type, result.dataset_type) == (task, "recipes")
    assert (result.metric_type, result.metric_value) == ("perplexity", 7.12)
    text = str(card)
    assert f'model = {auto_class}.from_pretrained("user/lm")' in text
    assert "Needs torch and transformers 4.57 or newer; made and measured with torch 2.13.0" in text
    assert "1000 steps on 950 recipes of recipes.jsonl.gz" in text
    assert "/somewhere" not in text


def test_a_teachers_card_states_that_histories_include_the_gap(tmp_path):
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
    assert "future" not in text
    assert "begins. Each file in `facts/` contains the options and the label space of one configuration.\n\n|" in text
    builder = kitchen_builder(tmp_path / "data", num_future_actions=3)
    builder.download_and_prepare()
    text = str(dataset_card({"default": builder.facts()}, "user/kitchen", DatasetCardData()))
    assert "| `future_actions`, `future_start_s`, `future_end_s` | the next 3 actions, the target first" in text
    assert "`past_actions` and the columns of the future are labels for training" in text


def test_a_data_sets_header_is_whole(tmp_path):
    builder = kitchen_builder(write_kitchen(tmp_path / "data"))
    builder.download_and_prepare()
    facts = builder.facts()
    card = dataset_card({"default": facts}, "user/kitchen", DatasetCardData(), Stated(license="cc-by-4.0"))
    card.save(tmp_path / "README.md")
    data = DatasetCard.load(tmp_path / "README.md").data
    assert data.license == "cc-by-4.0"
    assert (data.task_categories, data.size_categories) == (["video-classification"], ["n<1K"])
    assert {"action-anticipation", "video"} <= set(data["tags"])
    assert data.language is None  # it was not given
    assert "\n`cc-by-4.0`\n" in str(card)
    fold = {**facts, "title": "50 Salads", "splits": {"train": {**facts["splits"]["train"], "rows": 999}}}
    data = dataset_card(
        {f"fold{number}": fold for number in range(5)}, "user/salads", DatasetCardData(license="mit")
    ).data
    assert (data.license, data.language, data.size_categories) == ("mit", ["en"], ["n<1K"])
    assert data.pretty_name == "50 Salads, action anticipation"
    assert "No license is stated" in str(dataset_card({"default": facts}, "user/kitchen", DatasetCardData()))


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
