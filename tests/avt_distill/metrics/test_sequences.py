"""Edit distances of sequences: compared with the textbook algorithm, by hand, short futures, and refusals."""

import numpy as np
import pytest

from avt_distill.data.labels import LabelSpace
from avt_distill.metrics import area_under_edit_distance, edit_distance_at, edit_distances, row_edit_distances

KITCHEN = LabelSpace(
    ("cut egg", "cut oil", "mix egg", "mix oil"), ("cut", "mix"), ("egg", "oil"), ((0, 0), (0, 1), (1, 0), (1, 1))
)


def levenshtein(first: list, second: list) -> int:
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, start=1):
        above, row = row, [i]
        for j, other in enumerate(second, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (one != other)))
    return row[-1]


@pytest.mark.parametrize("seed", range(3))
def test_every_length_equals_a_table_of_its_own(seed, monkeypatch):
    monkeypatch.setattr("avt_distill.metrics.sequences.SEQUENCES_AT_ONCE", 7)
    rng = np.random.default_rng(seed)
    predicted, actual = rng.integers(0, 4, (9, 3, 8)), rng.integers(0, 4, (9, 8))
    found = row_edit_distances(predicted, actual)
    for z in range(1, 9):
        expected = [
            min(levenshtein(sequence[:z].tolist(), row[:z].tolist()) for sequence in sequences) / z
            for sequences, row in zip(predicted, actual, strict=True)
        ]
        np.testing.assert_allclose(found[:, z - 1], expected)
        assert edit_distance_at(predicted, actual, z) == pytest.approx(np.mean(expected))
    assert area_under_edit_distance(predicted, actual) == pytest.approx(np.trapezoid(found.mean(axis=0)) / 7)


def test_by_hand():
    actual = np.array([[0, 1, 2, 3]])
    assert edit_distance_at(np.array([[[0, 1, 2, 3]]]), actual) == 0.0
    assert edit_distance_at(np.array([[[1, 0, 2, 3]]]), actual) == 0.5  # a swap is two edits: not Damerau's distance
    assert edit_distance_at(np.array([[[1, 2, 3, 0]]]), actual) == 0.5  # one action early: a deletion, an insertion
    assert edit_distance_at(np.array([[[7, 7, 7, 7], [7, 1, 7, 7]]]), actual) == 0.75  # the better of two
    # ED@1 to ED@4 of the last one: 1, 1/2, 2/3, 3/4
    area = area_under_edit_distance(np.array([[[7, 1, 7, 7]]]), actual)
    assert area == pytest.approx((1 / 2 + 1 / 2 + 2 / 3 + 3 / 8) / 3)


def test_verbs_and_nouns_of_the_predicted_actions():
    predicted, actual = np.array([[[0, 3], [1, 1]], [[2, 2], [2, 3]]]), np.array([[1, 3], [2, 3]])
    # Row 0: [0, 3] and [1, 1] each have one correct action; the verbs of [0, 3] are cut, mix; the nouns of [1, 1] oil.
    found = edit_distances(predicted, actual, KITCHEN)
    assert {name: value for name, value in found.items() if "ed@" in name} == {
        "action_ed@2": 0.25,
        "verb_ed@2": 0.0,
        "noun_ed@2": 0.0,
    }
    assert found["action_aued"] == pytest.approx((0 + 0.25) / 2)  # ED@1 is 0: the second sequence begins correctly
    assert (found["num_rows"], found["num_incomplete"]) == (2, 0)
    assert set(edit_distances(predicted[:, :, :1], actual[:, :1])) == {"action_ed@1", "num_rows", "num_incomplete"}


def test_rows_with_a_short_future_are_refused_or_left_out_and_counted():
    predicted = np.array([[[0, 1, 2]], [[0, 1, 2]], [[3, 3, 3]]])
    actual = np.array([[0, 1, -100], [0, 2, 2], [-100, 3, 3]])  # what follows an unknown action is not measured
    with pytest.raises(ValueError, match="actual has 2 of 3 rows with fewer than 3 annotated actions"):
        edit_distance_at(predicted, actual)
    assert edit_distance_at(predicted, actual, skip_incomplete=True) == pytest.approx(1 / 3)
    assert edit_distance_at(predicted, actual, 1, skip_incomplete=True) == 0.0
    found = edit_distances(predicted, actual, KITCHEN, skip_incomplete=True)
    assert (found["num_rows"], found["num_incomplete"]) == (1, 2)
    expected = [[0, 0, np.nan], [0, 0.5, 1 / 3], [np.nan] * 3]
    np.testing.assert_allclose(row_edit_distances(predicted, actual), expected)
    with pytest.raises(ValueError, match="No row of actual has 3 annotated actions"):
        edit_distance_at(predicted[:1], actual[:1], skip_incomplete=True)


@pytest.mark.parametrize(
    ("predicted", "actual", "message"),
    [
        (np.zeros((2, 0, 3), int), np.zeros((2, 3), int), r"predicted has shape \(2, 0, 3\)"),
        (np.zeros((0, 1, 3), int), np.zeros((0, 3), int), r"predicted has shape \(0, 1, 3\)"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), r"predicted has shape \(2, 3\)"),
        (np.zeros((2, 1, 3)), np.zeros((2, 3), int), "type float64"),
        (np.zeros((2, 1, 3), int), np.zeros((2, 4), int), r"predicted has shape \(2, 1, 3\) and actual \(2, 4\)"),
        (np.full((2, 1, 3), -100), np.zeros((2, 3), int), "predicted has -100"),
        (np.zeros((2, 1, 3), int), np.full((2, 3), -1), "actual has -1"),
    ],
)
def test_refuses(predicted, actual, message):
    with pytest.raises(ValueError, match=message):
        edit_distance_at(predicted, actual)


def test_refuses_lengths_beyond_the_annotations_and_ids_beyond_the_label_space():
    predicted, actual = np.zeros((2, 1, 3), int), np.zeros((2, 3), int)
    for z in (0, 4):
        with pytest.raises(ValueError, match=f"z is {z}: give a number from 1 to the 3"):
            edit_distance_at(predicted, actual, z)
    with pytest.raises(ValueError, match="actual has a single action per row"):
        area_under_edit_distance(predicted[:, :, :1], actual[:, :1])
    with pytest.raises(ValueError, match="predicted has 4: give action ids from 0 to 3"):
        edit_distances(predicted + 4, actual, KITCHEN)
