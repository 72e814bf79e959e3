"""`finetune_teacher` and `export_soft_labels`, from annotations to soft labels."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import avt_distill
from helpers.places import PROJECT
from helpers.processes import WITH_THE_PROJECT, command

from avt_distill.data import anticipation_builder
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.metrics import softmax
from avt_distill.teacher.arguments import TeacherArguments
from avt_distill.teacher.count_models import NGramModel
from avt_distill.teacher.cross_fitting import assign_folds
from avt_distill.teacher.prediction import TeacherScorer
from avt_distill.teacher.soft_labels import SoftLabelTable
from avt_distill.teacher.worded import WordedLogLinear, name_vectors

TRAINING = """
history_length: 3
learning_rate: 3e-3
num_train_epochs: 4
held_out_fraction: 0
save_strategy: "no"
use_cpu: true
disable_tqdm: true
"""
ACTIONS = ("open_fridge", "take_egg", "cut_tomato", "wash_knife")


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    """Annotations of six training and two validation videos, and the YAML file of a run."""
    folder = tmp_path_factory.mktemp("kitchen")
    lines = ["video_id,start_s,end_s,action,split"]
    for video in range(8):
        for index in range(6):
            split = "train" if video < 6 else "validation"
            action = ACTIONS[(video + index) % 4]
            lines.append(f"v{video},{10 + 4 * index},{13 + 4 * index},{action},{split}")
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    (folder / "run.yaml").write_text(TRAINING)
    return folder


def options(kitchen: Path, language_models: dict, output: Path, *more: str) -> list[str]:
    named = {"dataset": kitchen, "model_name_or_path": language_models["bert"], "output_dir": output}
    return [str(kitchen / "run.yaml"), *(f"--{name}={value}" for name, value in named.items()), *more]


@pytest.fixture(scope="module")
def teacher(kitchen, language_models, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    avt_distill(
        "finetune_teacher", *options(kitchen, language_models, folder, "--num_train_epochs", "30", "--log_linear_floor")
    )
    return folder


def test_a_teacher_is_compared_with_counts_on_the_same_rows(kitchen, teacher):
    results = json.loads((teacher / "results.json").read_text())
    assert results["split"] == "validation"
    assert results["num_rows"] == 12
    assert list(results["metrics"]) == ["teacher", "unigram", "bigram", "trigram", "4-gram", "log-linear"]
    assert results["metrics"]["teacher"]["action_top1_accuracy"] > results["metrics"]["unigram"]["action_top1_accuracy"]
    assert results["settings"]["learning_rate"] == 3e-3
    tables = [ScoreTable.load(teacher / f"scores_validation_{name}.parquet") for name in ("teacher", "bigram")]
    assert tables[0].uids == tables[1].uids
    builder = anticipation_builder(str(kitchen))
    rows, train = builder.rows("validation"), builder.rows("train")
    np.testing.assert_array_equal(tables[0].labels, rows["action"])
    np.testing.assert_array_equal(
        tables[0].scores, TeacherScorer.from_pretrained(teacher).logits(list(rows["history"]))
    )
    np.testing.assert_array_equal(
        tables[1].scores, NGramModel(2, 4).fit(train["history"], train["action"]).logits(rows["history"])
    )


def export(kitchen, tmp_path, *arguments: str, split: str = "train") -> SoftLabelTable:
    avt_distill("export_soft_labels", *arguments, "--soft_labels", str(tmp_path / "soft"))
    space = anticipation_builder(str(kitchen)).annotations.label_space
    return SoftLabelTable.load(tmp_path / "soft" / f"{split}.parquet", label_space=space)


def test_a_saved_teacher_labels_any_split(kitchen, teacher, tmp_path):
    given = ["--dataset", str(kitchen), "--teachers", str(teacher)]
    table = export(kitchen, tmp_path, *given, "--splits", "validation", "train", split="validation")
    rows = anticipation_builder(str(kitchen)).rows("validation")
    expected = TeacherScorer.from_pretrained(teacher).logits(list(rows["history"]))
    assert table.uids == list(rows["uid"])
    np.testing.assert_allclose(table.logits, expected, rtol=1e-5, atol=1e-6)
    assert table.metadata["history_cutoff"] == "started"
    assert table.metadata["cross_fit"] == "0"
    assert table.videos_of_teacher == {f"v{number}" for number in range(6)}  # the training split
    assert len(SoftLabelTable.load(tmp_path / "soft" / "train.parquet").uids) == 36


def test_several_teachers_are_averaged(kitchen, teacher, tmp_path):
    one = export(kitchen, tmp_path, "--dataset", str(kitchen), "--teachers", str(teacher))
    of_two = ["--dataset", str(kitchen), "--teachers", str(teacher), str(teacher)]
    with pytest.raises(SystemExit, match="this command did not write it from the same inputs"):
        export(kitchen, tmp_path, *of_two)
    two = export(kitchen, tmp_path, *of_two, "--overwrite")
    np.testing.assert_allclose(softmax(two.logits), softmax(one.logits), rtol=1e-5)
    assert two.metadata["average"] == "probabilities"


def test_counts_are_averaged_with_saved_teachers(kitchen, teacher, tmp_path):
    ways = ["--teachers", str(teacher)], ["--log_linear"]
    alone = [export(kitchen, tmp_path, "--dataset", str(kitchen), *way, "--overwrite") for way in ways]
    both = export(kitchen, tmp_path, "--dataset", str(kitchen), *ways[0], *ways[1], "--overwrite")
    expected = sum(softmax(table.logits) for table in alone) / 2
    assert [len(table.videos_of_teacher) for table in (*alone, both)] == [6, 6, 6]
    np.testing.assert_allclose(softmax(both.logits), expected, rtol=1e-5)
    assert both.metadata["model"] == f"{teacher}, log-linear"


def test_cross_fitted_teachers_label_rows_they_were_not_trained_on(kitchen, language_models, tmp_path):
    folds = tmp_path / "folds"
    given = options(kitchen, language_models, folds, "--cross-fit", "3", "--num_train_epochs", "1")
    table = export(kitchen, tmp_path, *given)
    rows = anticipation_builder(str(kitchen)).rows("train")
    assert table.metadata["cross_fit"] == "3"
    for fold in range(3):
        scorer = TeacherScorer.from_pretrained(folds / f"fold{fold}")
        own = np.isclose(scorer.logits(list(rows["history"])), table.logits, atol=1e-5).all(axis=1)
        seen = json.loads((folds / f"fold{fold}" / "training.json").read_text())["videos"]
        assert not set(rows["video_id"][own]) & set(seen)
        assert set(rows["video_id"][~own]) <= set(seen)
    before = (folds / "fold0" / "training.json").stat().st_mtime_ns
    again = export(kitchen, tmp_path, *given)  # nothing is trained twice
    assert (folds / "fold0" / "training.json").stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.logits, table.logits)


@pytest.mark.parametrize(("way", "name"), [(["--ngram", "2"], "2-gram"), (["--log_linear"], "log-linear")])
def test_counts_can_be_teachers_too(kitchen, tmp_path, way, name):
    plain = export(kitchen, tmp_path, "--dataset", str(kitchen), *way)
    crossed = export(kitchen, tmp_path, "--dataset", str(kitchen), *way, "--cross-fit", "3", "--overwrite")
    assert plain.metadata["model"] == name
    assert not np.array_equal(plain.logits, crossed.logits)
    np.testing.assert_allclose(np.exp(crossed.logits).sum(axis=1), 1, rtol=1e-5)


def test_a_log_linear_teacher_reads_words(kitchen, language_models, tmp_path):
    given = ["--dataset", str(kitchen), "--log_linear", "--history_length", "2", "--cross_fit", "2"]
    plain = export(kitchen, tmp_path, *given)
    name = str(language_models["bert"])
    with pytest.raises(SystemExit, match="this command did not write it from the same inputs"):
        export(kitchen, tmp_path, *given, "--language_model", name)
    worded = export(kitchen, tmp_path, *given, "--language_model", name, "--overwrite")
    assert worded.metadata["language_model"] == name
    assert not np.allclose(softmax(worded.logits), softmax(plain.logits), atol=1e-3)
    again = export(kitchen, tmp_path, *given, "--language_model", name)
    np.testing.assert_array_equal(again.logits, worded.logits)
    with pytest.raises(SystemExit, match="this command did not write it from the same inputs"):
        export(kitchen, tmp_path, *given)
    builder = anticipation_builder(str(kitchen))
    space, rows = builder.annotations.label_space, builder.rows("train")
    vectors = name_vectors(space, name, head_noun_first=False, parts_apart=False)
    seed = TeacherArguments(str(tmp_path / "unused")).seed
    is_own = rows["video_id"].map(assign_folds(list(rows["video_id"]), 2, seed=seed)) == 0
    others, own = rows[~is_own], rows[is_own]
    model = WordedLogLinear(len(space.actions), vectors, 0.5, history_length=2)
    expected = model.fit(list(others["history"]), list(others["action"])).logits(list(own["history"]))
    found, _ = worded.select(own["uid"])
    np.testing.assert_allclose(softmax(found), softmax(expected), atol=1e-5)


def write_own_kitchen(folder: Path) -> list[str]:
    """Writes annotations of six videos in three folds, and returns the options of counts on them."""
    folder.mkdir()
    lines = ["video_id,start_s,end_s,action,fold"]
    for video in range(6):
        for index in range(6):
            action = ACTIONS[(video + index) % 4]
            lines.append(f"v{video},{10 + 4 * index},{13 + 4 * index},{action},{video % 3}")
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    return ["--dataset", str(folder), "--fold", "0", "--cache_dir", str(folder / "cache")]


def refused(kitchen: Path, tmp_path: Path, *arguments: str):
    """Checks that tables are not replaced without `--overwrite`, and are with it."""
    before = (tmp_path / "soft" / "train.parquet").read_bytes()
    with pytest.raises(SystemExit, match="this command did not write it from the same inputs"):
        export(kitchen, tmp_path, *arguments)
    assert (tmp_path / "soft" / "train.parquet").read_bytes() == before
    export(kitchen, tmp_path, *arguments, "--overwrite")


@pytest.mark.parametrize(
    ("first", "changed"),
    [
        (["--ngram", "2"], ["--fold", "1"]),
        (["--ngram", "2"], ["--cross_fit", "2"]),
        (["--ngram", "2"], ["--train_split", "test"]),
        (["--ngram", "2", "--cross_fit", "2"], ["--cross_fit", "4"]),
        (["--ngram", "2", "--cross_fit", "2"], ["--seed", "7"]),
        (["--ngram", "2"], ["--ngram", "3"]),
        (["--log_linear", "true"], ["--history_length", "1"]),
        (["--zero_shot", "llama"], ["--instruction", "take egg"]),
        (["--zero_shot", "llama"], ["--calibrate", "true"]),
        (["--zero_shot", "llama"], ["--text_form", "markers"]),
    ],
)
def test_soft_labels_of_other_options_are_not_replaced(language_models, tmp_path, first, changed):
    data = write_own_kitchen(kitchen := tmp_path / "kitchen")
    given = [*data, *(str(language_models[word]) if word == "llama" else word for word in first)]
    export(kitchen, tmp_path, *given, "--splits", "train")
    # Neither outputs, logging and batches nor, since nothing is trained by gradients, learning rates decide the labels.
    harmless = ["--output_dir", str(tmp_path / "out"), "--logging_steps", "3", "--per_device_eval_batch_size", "5"]
    export(kitchen, tmp_path, *given, *harmless, "--learning_rate", "0.1", "--splits", "train", "test")
    refused(kitchen, tmp_path, *given, *changed)


def test_soft_labels_of_changed_rows_and_of_earlier_versions_are_not_replaced(tmp_path):
    given = [*write_own_kitchen(kitchen := tmp_path / "kitchen"), "--ngram", "2"]
    table = export(kitchen, tmp_path, *given)
    path = kitchen / "segments.csv"
    path.write_text(path.read_text().replace("v1,14,17,cut_tomato,1", "v1,14,17,take_egg,1"))
    refused(kitchen, tmp_path, *given)
    del table.metadata["inputs"]
    table.save(tmp_path / "soft" / "train.parquet")
    refused(kitchen, tmp_path, *given)


def test_soft_labels_of_a_retrained_teacher_are_not_replaced(kitchen, teacher, tmp_path):
    copy = shutil.copytree(teacher, tmp_path / "teacher")
    given = ["--dataset", str(kitchen), "--teachers", str(copy)]
    export(kitchen, tmp_path, *given)
    (copy / "training.json").write_text("{}")  # a record, not part of the model
    export(kitchen, tmp_path, *given)
    scorer = TeacherScorer.from_pretrained(copy)
    with torch.no_grad():
        scorer.model.classifiers["action"].bias += 1
    scorer.model.save_pretrained(copy)
    refused(kitchen, tmp_path, *given)


def test_a_causal_language_model_labels_without_training(kitchen, language_models, tmp_path):
    given = ["--dataset", str(kitchen), "--zero_shot", str(language_models["llama"]), "--history_length", "2"]
    table = export(kitchen, tmp_path, *given, "--instruction", "take egg")
    rows = anticipation_builder(str(kitchen)).rows("train")
    assert (table.metadata["trained_on"], table.metadata["cross_fit"]) == ("", "0")
    recent = [tuple(history[-2:]) for history in rows["history"]]
    same = [row for row, history in enumerate(recent) if history == recent[-1]]
    assert len(same) > 1
    assert (table.logits[same] == table.logits[-1]).all()
    assert not (table.logits[recent.index(())] == table.logits[-1]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No teacher is given"),
        (["--ngram", "0"], "ngram is 0: give a whole number"),
        (["--ngram", "2", "--cross_fit", "3", "--teachers", "x"], "teachers and cross_fit are both given"),
        (["--ngram", "2", "--log_linear"], "ngram and log_linear are both given"),
        (["--ngram", "2", "--language_model", "x"], "language_model is given without log_linear"),
        (["--log_linear", "--language_model", "x"], "x is no folder|There is no folder 'x'|'x'"),
        (["--zero_shot", "x", "--cross_fit", "3"], "zero_shot and cross_fit are both given"),
        (["--ngram", "2", "--splits", "valid"], "There is no split 'valid'"),
        (["--ngram", "2", "--cross_fit", "99"], "99 folds are requested: give 2 to 6"),
        (["--teachers", str(PROJECT)], "Cannot read a teacher from"),
        (["--ngram", "2", "--dataset_options", '{"history": 1}'], "'history' is not an option of OwnData"),
        (["--ngram", "2", "--dataset_options", "tau_a=1"], "dataset_options is 'tau_a=1': give a JSON object"),
        (["--ngrams", "2"], "did you mean ngram"),
    ],
)
def test_invalid_options_are_refused(kitchen, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        export(kitchen, tmp_path, "--dataset", str(kitchen), *arguments)
    assert not (tmp_path / "soft").exists()


def test_options_of_rows_as_json_still_count(kitchen, tmp_path, caplog):
    """YAML files of version 0.1 contain `dataset_options`; individual options take precedence."""
    as_json = ["--dataset_options", '{"tau_a": 0.5, "history_cutoff": "ended"}', "--history_cutoff", "started"]
    table = export(kitchen, tmp_path, "--dataset", str(kitchen), "--ngram", "2", *as_json)
    assert (table.metadata["tau_a"], table.metadata["history_cutoff"]) == ("0.5", "started")
    assert "dataset_options is deprecated" in caplog.text


def test_a_data_set_needs_no_option_name(kitchen, tmp_path):
    table = export(kitchen, tmp_path, str(kitchen), "--ngram", "2", "--tau_a", "0.5")
    assert table.metadata["tau_a"] == "0.5"


def test_teachers_of_another_history_rule_are_refused(kitchen, teacher, tmp_path):
    given = ["--dataset", str(kitchen), "--teachers", str(teacher)]
    with pytest.raises(SystemExit, match="was trained on histories of cutoff and tau_a"):
        export(kitchen, tmp_path, *given, "--history_cutoff", "segment_start")


def test_a_run_without_data_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="error: dataset is None: give the name of a benchmark"):
        avt_distill("finetune_teacher", "--output_dir", str(tmp_path), "--use_cpu", "true")


def test_a_pushed_teacher_answers_as_the_local_one(hub, teacher, tmp_path):
    pushed = shutil.copytree(teacher, tmp_path / "pushed")
    hub.run(command("push_to_hub", pushed, "user/teacher"), "here")
    assert b"| bigram |" in hub.repositories["models/user/teacher"]["README.md"]
    load = "from avt_distill.teacher.prediction import TeacherScorer as T; import json"
    ask = "print(json.dumps(T.from_pretrained('user/teacher').logits([[0, 1]]).tolist()))"
    printed = hub.run(f"{WITH_THE_PROJECT}{load}; {ask}", "elsewhere")
    expected = TeacherScorer.from_pretrained(teacher).logits([[0, 1]])
    np.testing.assert_allclose(json.loads(printed.splitlines()[-1]), expected, rtol=1e-5)
