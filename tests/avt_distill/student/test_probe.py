"""The probe, and students that are initialized from it."""

import json

import numpy as np
import pytest
import torch
from helpers.commands import avt_distill
from scipy.optimize import minimize
from tiny_kitchen import kitchen_builder, write_kitchen

from avt_distill.data.collator import FeatureCollator
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.features.stores import open_feature_store
from avt_distill.metrics import log_loss
from avt_distill.student import logistic, probe
from avt_distill.student.building import column_statistics
from avt_distill.student.logistic import LinearClassifier, choose_l2, fit_logistic, out_of_fold_log_probs
from avt_distill.student.probe import fit_probe, last_frame_features
from modeling_avt import AVTForAnticipation


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    return write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")


def separable(num_rows: int = 60, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=num_rows)
    features = 5 + 3 * rng.normal(size=(num_rows, 4)) + 4 * np.eye(3, 4)[labels]
    return features.astype(np.float32), labels


def test_logistic_regression_has_the_least_penalized_loss():
    """Compared with scipy, on standardized columns."""
    features, labels = separable()
    found = fit_logistic(features, labels, 3, l2=2.0)
    inputs = (features - features.mean(0)) / features.std(0)

    def objective(flat):
        weight, bias = flat[:12].reshape(3, 4), flat[12:]
        loss = len(labels) * log_loss(LinearClassifier(weight, bias).log_probs(inputs), labels)
        return loss + np.square(weight).sum() + 0.05 * np.square(bias).sum()

    expected = minimize(objective, np.zeros(15), method="L-BFGS-B", options={"maxiter": 2000}).x
    weight, bias = expected[:12].reshape(3, 4), expected[12:]
    np.testing.assert_allclose(found.log_probs(features), LinearClassifier(weight, bias).log_probs(inputs), atol=0.01)


def test_a_class_without_an_example_stays_possible():
    """Without a penalty on biases, its log probability is -20 and less, as the fit happens to stop."""
    features, labels = separable()
    log_probs = fit_logistic(features, labels, 5, l2=2.0).log_probs(features)
    absent = np.exp(log_probs[:, 3:]).sum(0)  # in rows: balanced by the penalty of the bias
    assert (absent > 0.05).all()
    assert (absent < 1).all()
    np.testing.assert_allclose(absent[0], absent[1], rtol=1e-3)


def test_large_data_is_fitted_in_float32_and_to_the_same(monkeypatch):
    features, labels = separable()
    exact = fit_logistic(features, labels, 3, l2=2.0)
    monkeypatch.setattr(logistic, "LARGE_PASS", 0)
    np.testing.assert_allclose(fit_logistic(features, labels, 3, l2=2.0).weight, exact.weight, atol=2e-3)


def test_unlabelled_rows_and_constant_columns_change_nothing():
    features, labels = separable()
    more = np.concatenate([features, features[:5]]), np.concatenate([labels, np.full(5, -100)])
    widened = np.concatenate([more[0], np.ones((65, 1), dtype=np.float32)], axis=1)
    found = fit_logistic(widened, more[1], 3, l2=2.0)
    np.testing.assert_allclose(found.weight[:, :4], fit_logistic(features, labels, 3, l2=2.0).weight, atol=1e-4)
    assert np.abs(found.weight[:, 4]).max() == 0
    with pytest.raises(ValueError, match="0 labeled rows"):
        fit_logistic(features, np.full(60, -100), 3, l2=2.0)


def test_out_of_fold_predictions_are_by_models_of_other_folds():
    features, labels = separable()
    folds = np.arange(60) % 3
    found = out_of_fold_log_probs(features, labels, folds, 3, l2=1.0)
    expected = fit_logistic(features[folds != 1], labels[folds != 1], 3, l2=1.0).log_probs(features[folds == 1])
    np.testing.assert_array_equal(found[folds == 1], expected)


def test_penalty_is_the_one_with_the_least_held_out_loss(monkeypatch):
    features, labels = separable(90)
    folds, choices = np.arange(90) % 3, (0.1, 3.0, 30.0, 1000.0)
    losses = [log_loss(out_of_fold_log_probs(features, labels, folds, 3, l2), labels) for l2 in choices]
    assert choose_l2(features, labels, folds, 3, choices) == choices[int(np.argmin(losses))]
    tried = []

    def watched(features, labels, folds, num_classes, l2, device):
        tried.append((len(features), l2))
        return out_of_fold_log_probs(features, labels, folds, num_classes, l2, device)

    monkeypatch.setattr(logistic, "LARGEST_TRIED_PASS", 0.5 * features.size * 3)
    monkeypatch.setattr(logistic, "out_of_fold_log_probs", watched)
    found = choose_l2(features, labels, folds, 3, choices)
    assert tried == [(45, l2 / 2) for l2 in choices[: len(tried)]]  # a loss over half of the rows
    assert found in choices[: len(tried)]


def test_a_classifier_of_standardized_features_gives_the_same_answers():
    features, labels = separable()
    found, mean, deviation = fit_logistic(features, labels, 3, l2=2.0), features.mean(0), features.std(0)
    moved = found.on_standardized(mean, deviation).log_probs((features - mean) / deviation)
    np.testing.assert_allclose(moved, found.log_probs(features), atol=1e-4)
    layer = torch.nn.Linear(6, 3)
    found.load_into(layer)
    padded = torch.from_numpy(np.concatenate([features, np.ones((60, 2), dtype=np.float32)], 1))
    np.testing.assert_allclose(layer(padded).log_softmax(-1).detach(), found.log_probs(features), atol=1e-4)


def test_distill_prints_the_probe_for_every_student(kitchen, tmp_path, capsys):
    avt_distill(
        "distill", kitchen / "run.yaml", "--distill_weight", 0, "--features", kitchen / "features", *to(tmp_path)
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    printed = {line[0]: line[1:] for line in lines if line and line[0] in ("baseline_seed0", "probe")}
    assert set(printed) == {"baseline_seed0", "probe"}
    table = ScoreTable.load(tmp_path / "run" / "scores_validation_probe.parquet")
    top1 = 100 * (table.scores.argmax(1) == table.labels).mean()
    assert f"{top1:.2f}" in printed["probe"]


@pytest.mark.parametrize(("options", "is_fitted"), [([], False), (["--probe", "true"], True)])
def test_a_probe_that_would_take_hours_is_left_out_with_a_warning(
    kitchen, tmp_path, monkeypatch, caplog, options, is_fitted
):
    monkeypatch.setattr(probe, "MOST_PRODUCTS", 1)
    features = ["--features", kitchen / "features"]
    avt_distill("distill", kitchen / "run.yaml", "--distill_weight", 0, *features, *options, *to(tmp_path))
    assert (tmp_path / "run" / "scores_validation_probe.parquet").exists() == is_fitted
    assert ("give --probe true" in caplog.text) != is_fitted


def test_a_probe_is_left_out_on_request(kitchen, tmp_path, caplog):
    features = ["--features", kitchen / "features", "--probe", "false"]
    avt_distill("distill", kitchen / "run.yaml", "--distill_weight", 0, *features, *to(tmp_path))
    assert not (tmp_path / "run" / "scores_validation_probe.parquet").exists()
    assert "give --probe true" not in caplog.text
    more = [*features, "--start_from_probe", "true"]
    with pytest.raises(SystemExit, match="start_from_probe is set, but probe is False"):
        avt_distill("distill", kitchen / "run.yaml", "--distill_weight", 0, *more, *to(tmp_path / "other"))


@pytest.mark.parametrize(
    ("rows", "features", "actions", "device", "expected"),
    [
        (8299, 642, 106, "cpu", True),  # EGTEA Gaze+
        (680, 144, 17, "cpu", True),  # 50 Salads
        (23_493, 1024, 2513, "cpu", False),  # EPIC-Kitchens-55, RULSTM's features
        (23_493, 1024, 2513, "cuda", True),
    ],
)
def test_a_probe_is_affordable_within_minutes(rows, features, actions, device, expected):
    assert probe.is_affordable((rows, features, actions), device) == expected


def to(folder) -> list:
    return ["--output_dir", folder / "run", "--seeds", "0"]


def test_a_student_that_starts_from_the_probe_keeps_it_and_adds_to_it(kitchen, tmp_path):
    options = json.loads('{"head_hidden_size": 32, "head_num_layers": 2, "head_num_positions": 16}')
    options["standardize_features"] = True
    given = ["--distill_weight", 0, "--features", kitchen / "features", "--model_options", json.dumps(options)]
    for name, epochs in (("trained", 3), ("untrained", 0.0001)):
        more = [
            "--start_from_probe",
            "true",
            "--num_train_epochs",
            epochs,
            "--learning_rate",
            0.01 if epochs == 3 else 0,
        ]
        avt_distill("distill", kitchen / "run.yaml", *given, *more, *to(tmp_path / name))
    probe = ScoreTable.load(tmp_path / "trained" / "run" / "scores_validation_probe.parquet")
    scores = {
        name: ScoreTable.load(tmp_path / name / "run" / "baseline_seed0" / "scores_validation.parquet")
        for name in ("trained", "untrained")
    }
    softmax = {name: torch.tensor(table.scores).log_softmax(-1) for name, table in scores.items()}
    np.testing.assert_allclose(softmax["untrained"], probe.scores, atol=1e-4)  # the head begins at zero
    assert (softmax["trained"] - softmax["untrained"]).abs().max() > 0.01
    models = [AVTForAnticipation.from_pretrained(tmp_path / name / "run" / "baseline_seed0") for name in scores]
    torch.testing.assert_close(models[0].last_frame_classifier.weight, models[1].last_frame_classifier.weight)


def test_features_are_standardized_by_training_videos_alone(kitchen, tmp_path):
    options = '{"head_hidden_size": 32, "head_num_layers": 1, "standardize_features": true}'
    given = ["--distill_weight", 0, "--features", kitchen / "features", "--model_options", options]
    avt_distill("distill", kitchen / "run.yaml", *given, *to(tmp_path))
    model, store = (
        AVTForAnticipation.from_pretrained(tmp_path / "run" / "baseline_seed0"),
        open_feature_store(kitchen / "features"),
    )
    rows = np.concatenate([store.read_all(f"v{video}")[0] for video in range(6)])  # v6 and v7 are held out
    np.testing.assert_allclose(model.avt.feature_mean, rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(model.avt.feature_deviation, rows.std(0), atol=1e-5)
    mean, deviation = column_statistics(store, ["v1", "v0", "v1"])
    two = np.concatenate([store.read_all(name)[0] for name in ("v0", "v1")])
    np.testing.assert_allclose(mean, two.mean(0), atol=1e-6)
    np.testing.assert_allclose(deviation, two.std(0), atol=1e-6)


def test_last_frame_features_are_those_that_students_see_last(kitchen):
    rows = kitchen_builder(kitchen).rows("train")
    store = open_feature_store(kitchen / "features")
    seen = FeatureCollator(store)(rows.to_dict("records"))["video_features"][:, -1]
    np.testing.assert_array_equal(last_frame_features(store, rows), seen)


def test_a_probe_of_videos_or_of_a_checkpoint_is_refused(kitchen, tmp_path):
    with pytest.raises(SystemExit, match="start_from_probe is set without features"):
        avt_distill("distill", kitchen / "run.yaml", "--distill_weight", 0, "--start_from_probe", "true", *to(tmp_path))


def test_videos_without_a_labelled_row_make_no_fold():
    features, labels = separable()
    videos = [f"v{row % 3}" for row in range(60)]
    expected = fit_probe(features, {"video_id": videos, "action": labels}, 3)
    more = {"video_id": [*videos, *(f"u{row}" for row in range(4))], "action": np.append(labels, np.full(4, -100))}
    found = fit_probe(np.concatenate([features, features[:4]]), more, 3)
    assert found.l2 == expected.l2
    np.testing.assert_array_equal(found.classifier.weight, expected.classifier.weight)
    alone = fit_probe(features, {"video_id": ["v"] * 60, "action": labels}, 3)
    assert alone.l2 == 30.0  # with one video, there is no held-out data to choose it on
