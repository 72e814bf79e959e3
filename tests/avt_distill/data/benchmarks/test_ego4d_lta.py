"""Ego4D long-term anticipation, from annotations written by hand in the published form."""

import json

import numpy as np
import pytest

from avt_distill.data import anticipation_builder, load_anticipation_dataset
from avt_distill.data.segments import AnnotationError

TAXONOMY = {"verbs": ["cut", "take", "wash"], "nouns": ["dough", "knife_(knife,_machete)"]}
CUT_DOUGH, TAKE_KNIFE, WASH_KNIFE = 0, 1, 2  # pairs that occur, in order of their ids


def action(index, start_s, end_s, verb=None, noun=None, clip="c1"):
    """Returns an entry in the published form, without keys that are not read."""
    times = {"action_clip_start_sec": start_s, "action_clip_end_sec": end_s, "clip_parent_start_sec": 300.0}
    labels = {} if verb is None else {"verb_label": verb, "noun_label": noun, "verb": TAXONOMY["verbs"][verb]}
    return {"clip_uid": clip, "action_idx": index, "video_uid": "v", **times, **labels}


TRAIN = [
    action(2, 12.0, 20.0, 2, 1),
    action(0, 2.0, 10.0, 1, 1),
    action(1, 7.0, 15.0, 0, 0),
    action(0, 3.0, 11.0, 1, 1, clip="c2"),
]
VALIDATION = [action(3, 1.0, 9.0, 0, 0, clip="d"), action(4, 6.0, 14.0, 1, 1, clip="d")]
TEST = [action(index, 2.0 + index, 10.0 + index, clip="e") for index in range(4)]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "train", TRAIN)
    write(tmp_path, "val", VALIDATION)
    write(tmp_path, "test_unannotated", TEST)
    (tmp_path / "fho_lta_taxonomy.json").write_text(json.dumps(TAXONOMY), encoding="utf-8")
    return tmp_path


def write(folder, part, clips):
    content = {"version": "1", "split": part, "clips": clips}
    (folder / f"fho_lta_{part}.json").write_text(json.dumps(content), encoding="utf-8")


def builder_of(folder, **options):
    return anticipation_builder("ego4d_lta", data_dir=folder, cache_dir=str(folder / "cache"), **options)


def test_rows_worked_out_by_hand(folder):
    rows = builder_of(folder, num_future_actions=3, num_frames=4, tau_o=4.0).rows("train")
    assert rows["uid"].tolist() == ["c1_0", "c1_1"]  # named by the last visible action; c2 has none
    row = rows.iloc[0]
    assert (row["video_id"], row["start_s"], row["observed_end_s"]) == ("c1", 7.0, 7.0)
    assert (row["action"], row["verb"], row["noun"]) == (CUT_DOUGH, 0, 0)
    assert row["frame_times"].tolist() == [4.0, 5.0, 6.0, 7.0]
    assert row["past_actions"].tolist() == [TAKE_KNIFE] * 4
    assert row["history"].tolist() == [TAKE_KNIFE]
    assert row["future_actions"].tolist() == [CUT_DOUGH, WASH_KNIFE, -100]
    np.testing.assert_array_equal(row["future_start_s"], [7.0, 12.0, np.nan])


def test_labels_are_pairs_that_occur_and_names_of_the_taxonomy(folder):
    space = builder_of(folder).annotations.label_space
    assert space.actions == ("cut dough", "take knife_(knife,_machete)", "wash knife_(knife,_machete)")
    assert space.action_to_verb_noun == ((0, 0), (1, 1), (2, 1))
    assert space.verbs == tuple(TAXONOMY["verbs"])


def test_test_rows_have_times_and_no_labels(folder):
    splits = load_anticipation_dataset(
        "ego4d_lta", data_dir=folder, cache_dir=str(folder / "cache"), num_future_actions=2
    )
    assert list(splits) == ["train", "validation", "test"]
    rows = splits["test"]
    assert rows["uid"][:] == ["e_0", "e_1", "e_2"]
    assert set(rows["action"][:]) == set(rows["verb"][:]) == {-100}
    assert rows["future_actions"][:] == [[-100, -100]] * 3
    assert rows["future_start_s"][:] == [[3.0, 4.0], [4.0, 5.0], [5.0, None]]


def test_the_first_action_of_a_clip_is_neither_row_nor_dropped(folder):
    builder = builder_of(folder, tau_a=7.5)
    assert builder.rows("train")["uid"].tolist() == ["c1_1"]
    assert builder.dropped["train"] == ["c1_0"]


def test_later_actions_change_futures_alone(folder):
    options = {"num_future_actions": 3, "num_frames": 4, "tau_o": 4.0}
    before = builder_of(folder, **options).rows("train").iloc[0]
    write(folder, "train", [TRAIN[1], action(1, 7.0, 9.0, 2, 1), action(2, 8.0, 8.5, 0, 0), action(3, 9.0, 10.0, 1, 1)])
    after = builder_of(folder, **options).rows("train").iloc[0]
    assert after["future_actions"].tolist() == [WASH_KNIFE, CUT_DOUGH, TAKE_KNIFE]
    targets = {"action", "verb", "noun", "end_s", "narration"}
    for column in set(before.index) - targets - {"future_actions", "future_start_s", "future_end_s"}:
        assert np.array_equal(before[column], after[column]), column


def test_actions_that_start_before_the_previous_one_are_pointed_out(folder, caplog):
    write(folder, "train", [*TRAIN[:3], action(3, 11.0, 19.0, 0, 0)])
    rows = builder_of(folder, num_future_actions=3).rows("train").set_index("uid")
    assert "1 actions start before the one of the lower action_idx, 'c1_2' first" in caplog.text
    assert rows.loc["c1_0", "future_actions"].tolist() == [CUT_DOUGH, CUT_DOUGH, WASH_KNIFE]


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("train", {"clips": []}, r"fho_lta_train\.json has no actions"),
        ("train", [1], r"fho_lta_train\.json has no actions"),
        ("val", {"clips": [{"clip_uid": "d", "action_idx": 0}]}, r"lack \['action_clip_start_sec', 'action_clip_end"),
        ("train", {"clips": [action(0, 1.0, 2.0, 1, 1), action(0, 3.0, 4.0, 1, 1)] * 2}, "is in two rows"),
        ("taxonomy", {"verbs": ["cut"], "nouns": ["dough"]}, "names 1 verbs and 1 nouns, but an action has verb 1"),
        ("taxonomy", {"verbs": "cut"}, r"fho_lta_taxonomy\.json has not"),
    ],
)
def test_files_of_another_form_are_refused(folder, part, content, message):
    (folder / f"fho_lta_{part}.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(AnnotationError, match=message):
        builder_of(folder).rows("train")


def test_missing_files_are_refused(folder):
    (folder / "fho_lta_taxonomy.json").unlink()
    with pytest.raises(AnnotationError, match=r"fho_lta_taxonomy\.json does not exist"):
        builder_of(folder).rows("train")
    for part in ("train", "val"):
        (folder / f"fho_lta_{part}.json").unlink()
    with pytest.raises(AnnotationError, match=r"neither fho_lta_train\.json nor fho_lta_val\.json"):
        builder_of(folder).rows("train")
