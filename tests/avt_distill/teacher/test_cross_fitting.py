"""Cross-fitting: no teacher labels rows that it was trained on."""

import copy

import numpy as np
import pandas as pd
import pytest

from avt_distill.teacher.count_models import NGramModel
from avt_distill.teacher.cross_fitting import assign_folds, cross_fitted_logits
from avt_distill.teacher.log_linear import LogLinearModel

TRAIN = pd.DataFrame(
    {
        "video_id": list("aaaabbbccd"),
        "history": [[row] for row in range(10)],
        "action": [0, 1, 2, 0, 1, 2, 0, 1, 2, 0],
    }
)


class FoldTeacher:
    """A teacher whose logits identify its fold, and that refuses histories it was trained on."""

    def __init__(self, rows: pd.DataFrame, fold: int):
        self.known = {tuple(history) for history in rows["history"]}
        self.fold = fold

    def logits(self, histories):
        assert not self.known & {tuple(history) for history in histories}
        return np.eye(3, dtype=np.float32)[[self.fold] * len(histories)]


def test_every_row_is_labelled_by_the_teacher_that_did_not_see_its_video():
    fold_of = assign_folds(list(TRAIN["video_id"]), 3)
    logits = cross_fitted_logits(TRAIN, TRAIN, FoldTeacher, num_folds=3)
    assert logits.argmax(axis=1).tolist() == [fold_of[video] for video in TRAIN["video_id"]]


def test_rows_of_new_videos_get_the_mean_probability_of_all():
    new = pd.DataFrame({"video_id": ["z", "a"], "history": [[77], [0]]})
    logits = cross_fitted_logits(TRAIN, new, FoldTeacher, num_folds=3)
    np.testing.assert_allclose(np.exp(logits[0]), 1 / 3, rtol=1e-6)
    assert logits[1].max() == 1  # the logits of one teacher, unchanged


@pytest.mark.parametrize("model", [NGramModel(2, 3), LogLinearModel(3)])
def test_a_fold_without_rows_to_label_is_skipped(model):
    folds = assign_folds(list(TRAIN["video_id"]), 3)
    rows = TRAIN[TRAIN["video_id"] == "b"].reset_index(drop=True)
    train, own = TRAIN.assign(history=[[row % 3] for row in range(10)]), rows.assign(history=[[0], [1], [2]])

    def fit(rows: pd.DataFrame, fold: int):
        return copy.deepcopy(model).fit(list(rows["history"]), list(rows["action"]))

    others = train[train["video_id"].map(folds) != folds["b"]]
    expected = fit(others, 0).logits(list(own["history"]))
    np.testing.assert_array_equal(cross_fitted_logits(train, own, fit, num_folds=3), expected)


def test_folds_have_about_equally_many_rows_and_are_reproducible():
    videos = [f"v{index}" for index in range(30) for _ in range(index + 1)]
    folds = assign_folds(videos, 5, seed=3)
    sizes = np.bincount([folds[video] for video in videos])
    assert len(folds) == 30
    assert sizes.max() - sizes.min() <= 3
    assert folds == assign_folds(list(reversed(videos)), 5, seed=3)


def test_cameras_of_one_performance_are_in_one_fold():
    videos = [f"P{n:02d}_{camera}_P{n:02d}_milk" for n in range(3, 9) for camera in ("cam01", "webcam02", "stereo01")]
    folds = assign_folds(videos, 3, seed=1)
    assert set(folds) == set(videos)
    assert all(len({folds[video] for video in videos if video.startswith(f"P{n:02d}")}) == 1 for n in range(3, 9))
    assert np.bincount(list(folds.values())).tolist() == [6, 6, 6]
    with pytest.raises(ValueError, match="7 folds are requested: give 2 to 6, the number of performances"):
        assign_folds(videos, 7)


@pytest.mark.parametrize("num_folds", [0, 1, 5])
def test_folds_that_cannot_be_are_refused(num_folds):
    with pytest.raises(ValueError, match=f"{num_folds} folds are requested: give 2 to 4"):
        assign_folds(list(TRAIN["video_id"]), num_folds)
