"""The command line of comparisons, as a user runs it."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from helpers.commands import Result, run_command

from avt_distill.data.labels import LabelSpace
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.evaluation.statistics import mcnemar_exact, paired_bootstrap, sign_flip_test, student_t_interval
from avt_distill.metrics import anticipation_metrics, calibration_metrics, label_ranks, row_log_losses

KITCHEN = LabelSpace(
    ("cut egg", "cut oil", "mix egg", "mix oil"), ("cut", "mix"), ("egg", "oil"), ((0, 0), (0, 1), (1, 0), (1, 1))
)
NUM_ROWS = 150
LABELS = np.random.default_rng(9).choice(4, NUM_ROWS, p=[0.6, 0.2, 0.15, 0.05])
UIDS = [f"uid {row}" for row in range(NUM_ROWS)]


def draw_scores(seed: int, skill: float) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((NUM_ROWS, 4)) + skill * np.eye(4)[LABELS]


BASELINES = [draw_scores(seed, 0.5) for seed in range(3)]
CANDIDATES = [draw_scores(seed, 1.5) for seed in range(10, 13)]


@pytest.fixture
def folder(tmp_path):
    metadata = {"label_space_hash": KITCHEN.content_hash}
    KITCHEN.save(tmp_path / "labels.json")
    for name, models in (("ce", BASELINES), ("kd", CANDIDATES)):
        for seed, scores in enumerate(models):
            order = np.random.default_rng(seed).permutation(NUM_ROWS)
            table = ScoreTable([UIDS[row] for row in order], scores[order], LABELS[order], metadata)
            table.save(tmp_path / f"{name}_{seed}.parquet")
    return tmp_path


def run(folder, baseline: list[str], candidate: list[str], *options) -> Result:
    given = ["--baseline", *baseline, "--candidate", *candidate, *options]
    return run_command("compare_runs", *given, folder=folder)


def test_a_pair_of_files_that_is_given_twice_does_not_count_as_two_seeds(folder):
    again = ["ce_0.parquet", "ce_1.parquet", f"../{folder.name}/ce_0.parquet"]
    result = run(folder, again, ["kd_0.parquet", "kd_1.parquet", "kd_0.parquet"])
    assert result.returncode == 1
    assert "ce_0.parquet and" in result.stderr
    assert "are compared more than once: give each pair once" in result.stderr
    assert run(folder, ["ce_0.parquet"] * 2, ["kd_0.parquet", "kd_1.parquet"], "--ks", 1).returncode == 0


def test_two_files_give_bootstrap_and_mcnemar(folder):
    options = ["--ks", 1, 2, "--num_resamples", 200, "--label_space", "labels.json", "--output", "comparison.json"]
    result = run(folder, ["ce_0.parquet"], ["kd_0.parquet"], *options)
    assert result.returncode == 0, result.stderr
    rows = {row["measure"]: row for row in json.loads((folder / "comparison.json").read_text())["rows"]}
    for scores, side in ((BASELINES[0], "baseline"), (CANDIDATES[0], "candidate")):
        metrics = anticipation_metrics(scores.astype(np.float32), LABELS, label_space=KITCHEN, ks=(1, 2))
        for kind in ("action", "verb", "noun"):
            for k in (1, 2):
                accuracy, recall = rows[f"{kind} top-{k} accuracy"], rows[f"{kind} class-mean top-{k} recall"]
                assert accuracy[side] == pytest.approx(metrics[f"{kind}_top{k}_accuracy"])
                assert recall[side] == pytest.approx(metrics[f"{kind}_class_mean_top{k}_recall"])
    # The resamples depend on the order of the rows, which is taken from the first file.
    order = np.random.default_rng(0).permutation(NUM_ROWS)
    hits = [(label_ranks(scores, LABELS) < 1)[order] for scores in (BASELINES[0], CANDIDATES[0])]
    expected = paired_bootstrap(*hits, num_resamples=200)
    row = rows["action top-1 accuracy"]
    assert (row["low"], row["high"]) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert row["p_value"] == expected.p_value
    assert row["mcnemar"]["p_value"] == pytest.approx(mcnemar_exact(*hits).p_value)
    assert "mcnemar" not in rows["action class-mean top-1 recall"]
    assert "seeds" not in row
    losses = [row_log_losses(scores.astype(np.float32), LABELS)[order] for scores in (BASELINES[0], CANDIDATES[0])]
    found = json.loads((folder / "comparison.json").read_text())["calibration"][0]
    assert found == {"measure": "log loss", **asdict(paired_bootstrap(*losses, num_resamples=200))}
    line = next(line for line in result.stdout.splitlines() if line.startswith("log loss "))
    assert line.split()[2:5] == [f"{found[side]:.3f}" for side in ("baseline", "candidate")] + [
        f"{found['difference']:+.3f}"
    ]
    line = next(line for line in result.stdout.splitlines() if line.startswith("action top-1 accuracy"))
    assert f"{row['difference']:+.2f}" in line
    assert line.split()[-1] == f"{row['mcnemar']['p_value']:.4f}"


def test_sets_of_seeds_give_tests_over_rows_and_over_seeds(folder):
    files = [[f"{name}_{seed}.parquet" for seed in range(3)] for name in ("ce", "kd")]
    result = run(folder, *files, "--ks", 2, "--num_resamples", 200, "--output", "comparison.json")
    assert result.returncode == 0, result.stderr
    row = json.loads((folder / "comparison.json").read_text())["rows"][1]
    assert row["measure"] == "action class-mean top-2 recall"
    name = "action_class_mean_top2_recall"
    baseline, candidate = (
        np.array([anticipation_metrics(scores, LABELS, ks=(2,))[name] for scores in models])
        for models in (BASELINES, CANDIDATES)
    )
    assert row["baseline_by_seed"] == pytest.approx(baseline.tolist())
    assert row["candidate_by_seed"] == pytest.approx(candidate.tolist())
    assert row["difference"] == pytest.approx((candidate - baseline).mean())
    expected = student_t_interval(candidate - baseline)
    assert (row["seeds"]["low"], row["seeds"]["high"]) == pytest.approx((expected.low, expected.high))
    assert row["seeds"]["p_value"] == sign_flip_test(candidate - baseline) == 0.25
    assert "mcnemar" not in row
    assert "3 seeds" in result.stdout
    found = json.loads((folder / "comparison.json").read_text())["calibration"]
    assert [row["measure"] for row in found] == ["log loss", "Brier score", "expected calibration error"]
    for row in found:
        name = row["measure"].lower().replace(" ", "_")
        for side, models in (("baseline", BASELINES), ("candidate", CANDIDATES)):
            of_seeds = [calibration_metrics(scores.astype(np.float32), LABELS)[name] for scores in models]
            assert row[f"{side}_by_seed"] == pytest.approx(of_seeds)
            assert row[side] == pytest.approx(np.mean(of_seeds))
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["seeds"]["mean"] == pytest.approx(row["difference"])
        differences = np.subtract(row["candidate_by_seed"], row["baseline_by_seed"])
        assert row["seeds"]["p_value"] == sign_flip_test(differences)


def test_a_run_compared_with_itself_has_no_difference(folder):
    result = run(folder, ["ce_0.parquet"], ["ce_0.parquet"], "--num_resamples", 20, "--output", "comparison.json")
    assert result.returncode == 0, result.stderr
    written = json.loads((folder / "comparison.json").read_text())
    for row in written["rows"] + written["calibration"]:
        assert (row["difference"], row["low"], row["high"], row["p_value"]) == (0, 0, 0, 1)


def test_whole_videos_are_resampled_where_asked_for(folder):
    metadata = {"label_space_hash": KITCHEN.content_hash, "seed": "0"}
    videos = [f"P01_cam0{row % 3}_P01_dish{row % 30}" for row in range(NUM_ROWS)]  # 30 performances
    for name, scores in (("ce_v", BASELINES[0]), ("kd_v", CANDIDATES[0])):
        ScoreTable(UIDS, scores, LABELS, metadata, videos).save(folder / f"{name}.parquet")
    options = ["--ks", 1, "--num_resamples", 200, "--output", "comparison.json", "--by_video", "--pool_folds"]
    result = run(folder, ["ce_v.parquet"], ["kd_v.parquet"], *options)
    assert result.returncode == 0, result.stderr
    assert "150 rows of 30 videos, 1 pair" in result.stdout
    assert "over videos" in result.stdout
    assert "over rows" not in result.stdout
    assert "McNemar" not in result.stdout
    hits = [label_ranks(scores.astype(np.float32), LABELS) < 1 for scores in (BASELINES[0], CANDIDATES[0])]
    groups = [f"dish{row % 30}" for row in range(NUM_ROWS)]
    expected = {key: paired_bootstrap(*hits, num_resamples=200, groups=of) for key, of in (("v", groups), ("r", None))}
    written = json.loads((folder / "comparison.json").read_text())
    found = written["rows"][0]
    assert (found["low"], found["high"]) == pytest.approx((100 * expected["v"].low, 100 * expected["v"].high))
    assert found["low"] != pytest.approx(100 * expected["r"].low)
    losses = [row_log_losses(scores.astype(np.float32), LABELS) for scores in (BASELINES[0], CANDIDATES[0])]
    of_losses = asdict(paired_bootstrap(*losses, num_resamples=200, groups=groups))
    assert written["calibration"][0] == {"measure": "log loss", **of_losses}
    result = run(folder, ["ce_0.parquet"], ["kd_0.parquet"], "--by_video")
    assert result.returncode == 1
    assert "has no column video_id" in result.stderr


def test_refuses_files_of_other_rows_and_labels_in_one_line(folder):
    metadata = {"label_space_hash": KITCHEN.content_hash}
    ScoreTable(UIDS[1:], CANDIDATES[0][1:], LABELS[1:], metadata).save(folder / "fewer.parquet")
    ScoreTable(UIDS, CANDIDATES[0], LABELS[::-1], metadata).save(folder / "relabelled.parquet")
    ScoreTable(UIDS, CANDIDATES[0], LABELS).save(folder / "unnamed.parquet")
    ScoreTable(UIDS, CANDIDATES[0], metadata=metadata).save(folder / "unlabelled.parquet")
    for baseline, candidate, message in (
        ("ce_0", "fewer", "differ in 1 uids, such as 'uid 0'"),
        ("ce_0", "relabelled", "differently"),
        ("ce_0", "unnamed", "give tables of one label space"),
        ("unlabelled", "unlabelled", "labels has 150 rows of -100"),
    ):
        result = run(folder, [f"{baseline}.parquet"], [f"{candidate}.parquet"])
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    result = run(folder, ["ce_0.parquet", "ce_1.parquet"], ["kd_0.parquet"])
    assert result.returncode == 1
    assert "2 baseline and 1 candidate files" in result.stderr


def save_folds(folder, spaces=("one", "one"), seeds=(0, 1), name="ce", num_actions=(4, 4)) -> list[str]:
    """Saves a file for each fold and seed, and returns their names."""
    files = []
    for fold, (space, count) in enumerate(zip(spaces, num_actions, strict=True)):
        for seed in seeds:
            rows = slice(fold * 75, fold * 75 + 75)
            scores = np.pad(BASELINES[0][rows], ((0, 0), (0, count - 4)), constant_values=-9)
            metadata = {"label_space_hash": space, "seed": str(seed)}
            ScoreTable(UIDS[rows], scores, LABELS[rows], metadata).save(folder / f"{name}_{fold}_{seed}.parquet")
            files.append(f"{name}_{fold}_{seed}.parquet")
    return files


@pytest.mark.parametrize(("spaces", "counts"), [(("one", "other"), (4, 4)), (("one", "one"), (4, 5))])
def test_folds_of_several_label_spaces_are_not_pooled(folder, spaces, counts):
    files = save_folds(folder, spaces, num_actions=counts)
    result = run(folder, files, files, "--pool_folds")
    assert result.returncode == 1
    message = (
        f"ce_0_0.parquet is of label space one with 4 actions, but ce_1_0.parquet is of {spaces[1]} with {counts[1]}"
    )
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("pooled", [True, False])
def test_other_seeds_are_not_paired(folder, pooled):
    folds = ("one", "one") if pooled else ("one",)
    sizes = {"spaces": folds, "num_actions": (4,) * len(folds)}
    files, others = (
        save_folds(folder, seeds=seeds, name=name, **sizes) for seeds, name in (((0, 1), "ce"), ((0, 5), "kd"))
    )
    options = ["--pool_folds"] if pooled else []
    result = run(folder, files, others, *options)
    assert result.returncode == 1
    message = (
        "The baselines have the seeds 0, 1 and the candidates 0, 5: give files of the same seeds in the same order"
    )
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    result = run(folder, files, files, "--num_resamples", 20, *options)
    assert f"{150 if pooled else 75} rows, 2 seeds" in result.stdout
