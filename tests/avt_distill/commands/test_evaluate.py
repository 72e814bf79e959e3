"""The command line of evaluation, as a user runs it, and the `evaluate` metric as one loads it."""

import importlib.util
import json

import numpy as np
import pytest
from helpers.commands import Result, run_command
from helpers.places import PROJECT
from helpers.processes import WITH_THE_PROJECT

from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.challenge import check_submission
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.metrics import anticipation_metrics, calibration_metrics, late_fuse_kinds, per_class_table

KITCHEN = LabelSpace(
    ("cut egg", "cut oil", "mix egg", "mix oil"), ("cut", "mix"), ("egg", "oil"), ((0, 0), (0, 1), (1, 0), (1, 1))
)
UIDS = [f"P0{number % 3}_{number}" for number in range(12)]
LABELS = np.arange(12) % 4


def draw_scores(seed: int, num_actions: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((12, num_actions)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    metadata = {"label_space_hash": KITCHEN.content_hash}
    KITCHEN.save(tmp_path / "labels.json")
    ScoreTable(UIDS, draw_scores(0), LABELS, metadata).save(tmp_path / "rgb.parquet")
    order = np.arange(12)[::-1]
    flow = ScoreTable([UIDS[row] for row in order], draw_scores(1)[order], LABELS[order], metadata)
    flow.save(tmp_path / "flow.parquet")
    return tmp_path


def run(folder, *arguments) -> Result:
    return run_command("evaluate", *arguments, folder=folder)


def test_groups_dropped_rows_and_classes_reach_the_output(folder):
    (folder / "many_shot.txt").write_text("0\n1\n")
    (folder / "tail.json").write_text(json.dumps({"action": [3], "verb": [1]}))
    (folder / "unseen.csv").write_text("P00_0\nP00_3\nP09_1\n")
    (folder / "dropped.csv").write_text("P09_1, 2\n")
    options = ["--many_shot", "many_shot.txt", "--tail", "tail.json", "--unseen", "unseen.csv"]
    options += ["--dropped", "dropped.csv", "--ks", 1, 2, "--per_class", "--output", "metrics.json"]
    result = run(folder, "rgb.parquet", "--label_space", "labels.json", *options)
    assert result.returncode == 0, result.stderr
    written = json.loads((folder / "metrics.json").read_text())
    unseen = np.array([uid in ("P00_0", "P00_3") for uid in UIDS] + [True])
    expected = anticipation_metrics(
        draw_scores(0),
        LABELS,
        label_space=KITCHEN,
        many_shot=[0, 1],
        tail={"action": [3], "verb": [1]},
        unseen_mask=unseen,
        dropped_labels=[2],
        ks=(1, 2),
    )
    assert written["metrics"] == expected
    of_classes = {"names": KITCHEN.actions, "ks": (1, 2), "dropped_labels": [2]}
    assert written["per_class"] == per_class_table(draw_scores(0), LABELS, **of_classes)
    assert (written["num_rows"], written["num_dropped"], written["num_unlabelled"]) == (12, 1, 0)
    assert "12 rows, 1 dropped that count as errors, 0 without a label" in result.stdout
    tail = next(line for line in result.stdout.splitlines() if line.startswith("verb tail"))
    assert tail.split()[2] == f"{expected['verb_top1_accuracy_tail']:.2f}"


def test_files_are_fused_by_uid_whatever_their_order(folder):
    options = ["--weights", 1, 0.5, "--label_space", "labels.json", "--output", "metrics.json"]
    result = run(folder, "rgb.parquet", "flow.parquet", *options)
    assert result.returncode == 0, result.stderr
    fused = late_fuse_kinds([draw_scores(0), draw_scores(1)], [1, 0.5], label_space=KITCHEN)
    expected = anticipation_metrics(labels=LABELS, label_space=KITCHEN, **fused)
    written = json.loads((folder / "metrics.json").read_text())
    assert written["metrics"] == expected
    assert written["calibration"] == calibration_metrics(fused["scores"], LABELS)


def test_calibration_is_of_the_labelled_rows_with_scores(folder):
    (folder / "dropped.csv").write_text("P09_1, 2\n")
    ScoreTable(UIDS, draw_scores(0), np.where(LABELS == 1, -100, LABELS)).save(folder / "some.parquet")
    options = ["--skip_unlabelled", "--dropped", "dropped.csv", "--output", "metrics.json"]
    result = run(folder, "some.parquet", *options)
    assert result.returncode == 0, result.stderr
    expected = calibration_metrics(draw_scores(0)[LABELS != 1], LABELS[LABELS != 1])
    assert json.loads((folder / "metrics.json").read_text())["calibration"] == expected
    assert result.stdout.splitlines()[-1] == (
        f"log loss {expected['log_loss']:.3f} nats, Brier score {expected['brier_score']:.3f}, "
        f"expected calibration error {expected['expected_calibration_error']:.2f} %"
    )


def test_groups_without_a_row_are_null_in_the_output(folder):
    ScoreTable(UIDS, draw_scores(0), LABELS % 2, {"label_space_hash": KITCHEN.content_hash}).save(
        folder / "two.parquet"
    )
    (folder / "tail.csv").write_text("3\n")
    result = run(folder, "two.parquet", "--tail", "tail.csv", "--output", "metrics.json")
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["action_top1_accuracy_tail"] is None


def test_unseen_participants_are_read_as_the_benchmark_publishes_them(folder):
    (folder / "participants.csv").write_text("participant_id\nP00\nP09\n")
    (folder / "uids.csv").write_text(
        "narration_id\n" + "".join(f"P00_{number}\n" for number in (0, 3, 6, 9)) + "P09_1\n"
    )
    (folder / "dropped.csv").write_text("P09_1, 2\n")
    found = []
    for name in ("participants.csv", "uids.csv"):
        options = ["--unseen", name, "--dropped", "dropped.csv", "--output", f"{name}.json"]
        result = run(folder, "rgb.parquet", *options)
        assert result.returncode == 0, result.stderr
        found.append(json.loads((folder / f"{name}.json").read_text())["metrics"])
    unseen = np.append(np.arange(12) % 3 == 0, True)
    assert found == 2 * [anticipation_metrics(draw_scores(0), LABELS, unseen_mask=unseen, dropped_labels=[2])]


def test_dropped_rows_with_uids_of_earlier_versions_are_refused(folder):
    """Otherwise each would be counted as an additional row, and as an error."""
    ScoreTable([f"v_{number}.000" for number in range(12)], draw_scores(0), LABELS).save(folder / "own.parquet")
    (folder / "dropped.csv").write_text("v_0,1\n")
    result = run(folder, "own.parquet", "--dropped", "dropped.csv")
    advice = "use the uids of one data set in both; earlier versions numbered the rows"
    assert f"dropped.csv and own.parquet name rows differently: {advice}" in result.stderr
    (folder / "dropped.csv").write_text("v_20.000,1\n")
    assert run(folder, "own.parquet", "--dropped", "dropped.csv").returncode == 0
    assert run(folder, "own.parquet").returncode == 0


def test_unseen_rows_without_a_label_are_left_out_with_the_others(folder):
    labels = np.where(LABELS == 1, -100, LABELS)
    ScoreTable(UIDS, draw_scores(0), labels).save(folder / "some.parquet")
    (folder / "unseen.csv").write_text(f"{UIDS[1]}\n{UIDS[2]}\n")  # the first has no label
    run(folder, "some.parquet", "--skip_unlabelled", "--unseen", "unseen.csv", "--output", "metrics.json")
    kept = labels >= 0
    expected = anticipation_metrics(draw_scores(0)[kept], labels[kept], unseen_mask=(np.arange(12) == 2)[kept])
    assert json.loads((folder / "metrics.json").read_text())["metrics"] == expected


def test_unlabelled_rows_are_left_out_only_on_request(folder):
    labels = np.where(LABELS == 1, -100, LABELS)
    ScoreTable(UIDS, draw_scores(0), labels).save(folder / "some.parquet")
    result = run(folder, "some.parquet")
    assert result.returncode == 1
    assert result.stderr.startswith("error: labels has 3 rows of -100")
    result = run(folder, "some.parquet", "--skip_unlabelled", "--output", "metrics.json")
    assert "9 rows, 0 dropped that count as errors, 3 without a label left out" in result.stdout
    written = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert written == anticipation_metrics(draw_scores(0)[labels >= 0], labels[labels >= 0])


def test_dropped_rows_without_a_label_are_left_out_with_the_others(folder):
    labels = np.where(LABELS == 1, -100, LABELS)
    ScoreTable(UIDS, draw_scores(0), labels).save(folder / "some.parquet")
    (folder / "dropped.csv").write_text("P09_1,2\nP09_2,-100\nP09_3,-100\n")
    (folder / "unseen.csv").write_text(f"{UIDS[2]}\nP09_1\nP09_2\n")
    options = ["--dropped", "dropped.csv", "--unseen", "unseen.csv", "--output", "metrics.json"]
    result = run(folder, "some.parquet", *options, "--skip_unlabelled")
    assert result.returncode == 0, result.stderr
    assert "9 rows, 1 dropped that count as errors, 5 without a label left out" in result.stdout
    kept = labels >= 0
    unseen = np.append((np.arange(12) == 2)[kept], True)
    expected = anticipation_metrics(draw_scores(0)[kept], labels[kept], unseen_mask=unseen, dropped_labels=[2])
    assert json.loads((folder / "metrics.json").read_text())["metrics"] == expected
    result = run(folder, "rgb.parquet", *options, "--overwrite")
    assert result.stderr.startswith("error: dropped.csv has 2 rows of -100, an unknown label: give --skip_unlabelled")
    assert len(result.stderr.strip().splitlines()) == 1


def test_recalls_of_classes_count_dropped_rows_as_their_mean_does(folder):
    (folder / "dropped.csv").write_text("P09_1,2\nP09_2,2\nP09_3,0\n")
    result = run(folder, "rgb.parquet", "--dropped", "dropped.csv", "--per_class", "--output", "metrics.json")
    assert result.returncode == 0, result.stderr
    written = json.loads((folder / "metrics.json").read_text())
    assert [row["count"] for row in written["per_class"]] == [4, 3, 5, 3]
    for k in (1, 5):
        recalls = [row[f"top{k}_recall"] for row in written["per_class"]]
        assert np.mean(recalls) == pytest.approx(written["metrics"][f"action_class_mean_top{k}_recall"])
        assert np.mean(recalls) < 100


def test_unlabelled_test_split_is_written_as_a_submission(folder):
    pairs = tuple((action % 97, (7 * action) % 300) for action in range(120))
    names = [tuple(f"{kind} {index}" for index in range(size)) for kind, size in (("a", 120), ("v", 97), ("n", 300))]
    labels = LabelSpace(*names, pairs)
    labels.save(folder / "ek100.json")
    table = ScoreTable(UIDS, draw_scores(0, 120), metadata={"label_space_hash": labels.content_hash})
    table.save(folder / "test.parquet")
    (folder / "dropped.csv").write_text("P09_0,-100\n")
    options = ["--dropped", "dropped.csv", "--challenge", "ek100", "--submission", "submission.json"]
    result = run(folder, "test.parquet", "--label_space", "ek100.json", "--sls", 1, 4, 3, *options)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    submission = json.loads((folder / "submission.json").read_text())
    check_submission(submission, "ek100", expected_uids=[*UIDS, "P09_0"])
    rest = ["--submission", "other.json", "--sls", 1, 4, 3]
    assert (submission["sls_pt"], submission["sls_tl"], submission["sls_td"]) == (1, 4, 3)
    (folder / "unseen.csv").write_text("P00_0\n")
    for options in (["--unseen", "unseen.csv"], ["--output", "metrics.json"]):  # options that would have no effect
        refused = run(folder, "test.parquet", "--label_space", "ek100.json", "--challenge", "ek100", *options, *rest)
        assert f"{options[0]} is given, but no row of test.parquet has a label to measure" in refused.stderr
    assert not (folder / "other.json").exists()
    best = max(submission["results"][UIDS[2]]["action"].items(), key=lambda item: item[1])[0]
    assert best == "{},{}".format(*pairs[draw_scores(0, 120)[2].argmax()])


def test_errors_are_one_line(folder):
    LabelSpace(("cut", "mix", "pour", "wash")).save(folder / "others.json")
    (folder / "bad.csv").write_text("P00_0,1\n")
    (folder / "others.csv").write_text("P99_0\n")
    for arguments, message in (
        (["rgb.parquet", "--label_space", "others.json"], "columns would stand for other actions"),
        (["missing.parquet"], "missing.parquet"),
        (["rgb.parquet", "--unseen", "bad.csv"], "bad.csv has a line 'P00_0,1': give 1 fields per line"),
        (["rgb.parquet", "--unseen", "others.csv"], "others.csv names 'P99_0', which matches no row"),
        (["rgb.parquet", "--dropped", "bad.csv"], "bad.csv has 'P00_0', which has scores"),
        (["rgb.parquet", "--challenge", "ek100"], "--challenge is given without --submission: give the file to write"),
        (["rgb.parquet", "--sls", 0, 1, 2], "--sls is given without --submission"),
        (["rgb.parquet", "--per_class"], "--per_class is given without --output"),
        (["rgb.parquet", "--weights", 1, 2], "weights has 2 numbers for 1 models"),
    ):
        result = run(folder, *arguments)
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def load_metric_class():
    path = PROJECT / "metrics" / "anticipation" / "anticipation.py"
    spec = importlib.util.spec_from_file_location("anticipation_metric", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Anticipation


def test_metric_class_gives_what_the_function_gives(tmp_path):
    metric = load_metric_class()(cache_dir=str(tmp_path))
    metric.add_batch(predictions=draw_scores(0)[:5], references=LABELS[:5])
    metric.add_batch(predictions=draw_scores(0)[5:], references=LABELS[5:])
    expected = anticipation_metrics(draw_scores(0), LABELS, label_space=KITCHEN, tail=[2], ks=(2,))
    assert metric.compute(label_space=KITCHEN, tail=[2], ks=(2,)) == expected


def test_metric_loads_from_its_folder_without_a_network(tmp_path, clean_process):
    (tmp_path / "rows.csv").write_text("\n".join(",".join(map(str, row)) for row in draw_scores(0).tolist()))
    code = f"""{WITH_THE_PROJECT}
import csv, evaluate, json
metric = evaluate.load({str(PROJECT / "metrics" / "anticipation")!r})
with open("rows.csv") as file:
    scores = [[float(cell) for cell in row] for row in csv.reader(file)]
print(json.dumps(metric.compute(predictions=scores, references=[row % 4 for row in range(12)])))
"""
    assert json.loads(clean_process(code)) == anticipation_metrics(draw_scores(0), LABELS)
