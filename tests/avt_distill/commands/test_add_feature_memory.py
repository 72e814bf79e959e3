"""`add_feature_memory`, from one feature store to another."""

import numpy as np
import pytest
from helpers.commands import avt_distill

from avt_distill.features.memory import evidence_so_far, running_means, softmax_scores
from avt_distill.features.stores import open_feature_store

VIDEOS = {name: np.random.default_rng(ord(name)).normal(3, 2, (9, 2)).astype(np.float32) for name in "ab"}


@pytest.fixture
def scores(tmp_path):
    np.savez(tmp_path / "scores.npz", **VIDEOS)
    return tmp_path / "scores.npz"


def run(scores, output, *more: str):
    avt_distill("add_feature_memory", scores, "--frame_rate", 1, "--output", output, *more)
    return open_feature_store(output)


def test_a_store_of_means_is_written(scores, tmp_path, capsys):
    store = run(scores, tmp_path / "means", "--windows_s", "2", "4", "--so_far")
    assert "2 videos, features of width 6" in capsys.readouterr().out
    for name, features in VIDEOS.items():
        expected = running_means(features, 1.0, [2, 4], so_far=True)
        np.testing.assert_allclose(store.read_all(name)[0], expected)


def test_class_scores_become_means_and_evidence(scores, tmp_path):
    store = run(scores, tmp_path / "memory", "--softmax", "2", "--windows_s", "3", "--evidence_s", "1", "5")
    probabilities = softmax_scores(VIDEOS["b"], 2.0)
    expected = [running_means(probabilities, 1.0, [3])]
    expected += [evidence_so_far(probabilities, 1.0, scale_s) for scale_s in (1, 5)]
    np.testing.assert_allclose(store.read_all("b")[0], np.concatenate(expected, axis=1), rtol=1e-6)


def test_evidence_of_scores_is_refused(scores, tmp_path):
    with pytest.raises(SystemExit, match="outside 0 to 1"):
        run(scores, tmp_path / "memory", "--evidence_s", "1")


def test_scores_are_kept_in_addition_to_probabilities(scores, tmp_path, capsys):
    options = ["--softmax", "2", "--keep_scores", "--windows_s", "1", "3", "--evidence_s", "5"]
    store = run(scores, tmp_path / "memory", *options)
    assert "features of width 10, the first 8 of them means" in capsys.readouterr().out
    probabilities = softmax_scores(VIDEOS["a"], 2.0)
    shown = running_means(np.concatenate([VIDEOS["a"], probabilities], 1), 1.0, [1, 3])
    expected = np.concatenate([shown, evidence_so_far(probabilities, 1.0, 5)], 1)
    np.testing.assert_allclose(store.read_all("a")[0], expected, rtol=1e-6)


def test_stores_of_the_same_videos_are_concatenated(scores, tmp_path):
    np.savez(tmp_path / "other.npz", **{name: features[:, :1] for name, features in VIDEOS.items()})
    options = ["--frame_rate", 1, "--windows_s", "2", "--output", tmp_path / "both"]
    avt_distill("add_feature_memory", scores, tmp_path / "other.npz", *options)
    both = np.concatenate([VIDEOS["a"], VIDEOS["a"][:, :1]], axis=1)
    found = open_feature_store(tmp_path / "both").read_all("a")[0]
    np.testing.assert_allclose(found, running_means(both, 1.0, [2]))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": VIDEOS["a"]}, "differ in videos, such as 'b'"),
        ({**VIDEOS, "b": VIDEOS["b"][:-1]}, "different rows of video 'b'"),
    ],
)
def test_stores_of_other_videos_or_rows_are_refused(scores, tmp_path, other, message):
    np.savez(tmp_path / "other.npz", **other)
    options = ["--frame_rate", 1, "--windows_s", "2", "--output", tmp_path / "both"]
    with pytest.raises(SystemExit, match=message):
        avt_distill("add_feature_memory", scores, tmp_path / "other.npz", *options)


def test_nothing_to_add_is_refused(scores, tmp_path):
    with pytest.raises(SystemExit, match="There is nothing to add"):
        run(scores, tmp_path / "memory")
    with pytest.raises(SystemExit, match="--keep_scores is given without --softmax"):
        run(scores, tmp_path / "memory", "--keep_scores", "--so_far")


def test_existing_features_are_not_mixed_with_new_ones(scores, tmp_path):
    run(scores, tmp_path / "means", "--so_far")
    with pytest.raises(SystemExit, match="already holds features"):
        run(scores, tmp_path / "means", "--so_far")


def test_standardizing_by_all_videos_is_refused_with_advice(scores, tmp_path):
    with pytest.raises(SystemExit, match="to standardize features by the training videos"):
        run(scores, tmp_path / "memory", "--so_far", "--standardize")
