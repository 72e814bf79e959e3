"""The future actions of rows, worked out by hand: order, padding, and no influence on the observed window."""

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from avt_distill.data import anticipation_builder, load_anticipation_dataset
from avt_distill.data.collator import FeatureCollator
from avt_distill.data.future import FUTURE_COLUMNS, future_segments
from avt_distill.data.rows import RowOptions

HEADER = "video_id,start_s,end_s,action"
SEGMENTS = ["a,0.5,3,cut egg", "a,3,6,mix egg", "a,8,9,cut oil", "a,8.5,12,", "b,4,5,mix egg"]
# Ids: cut egg 0, cut oil 1, mix egg 2.


def segments(*rows: tuple, video: str = "a") -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["start_s", "end_s", "action"]).assign(video_id=video)
    return table.assign(uid=[f"{video}{number}" for number in range(len(table))])


def futures(table: pd.DataFrame, num_future_actions: int) -> dict[str, list]:
    found = future_segments(table, table, num_future_actions)["future_actions"]
    return dict(zip(table["uid"], (actions.tolist() for actions in found), strict=True))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", SEGMENTS)
    return tmp_path / "data"


def write(folder, rows):
    (folder / "segments.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def builder_of(folder, **options):
    fields = {"cache_dir": str(folder.parent / "cache"), "tau_o": 4.0, "num_frames": 4}
    return anticipation_builder(str(folder), **fields, **options)


def test_a_row_carries_its_own_action_and_those_after_it(folder):
    rows = builder_of(folder, num_future_actions=3).rows("train").set_index("uid")
    row = rows.loc["a_3.000"]
    assert row["future_actions"].tolist() == [2, 1, -100]  # the last one is annotated but unlabelled
    assert row["future_start_s"].tolist() == [3.0, 8.0, 8.5]
    assert row["future_end_s"].tolist() == [6.0, 9.0, 12.0]
    last = rows.loc["b_4.000"]
    assert last["future_actions"].tolist() == [2, -100, -100]
    np.testing.assert_array_equal(last["future_start_s"], [4.0, np.nan, np.nan])
    np.testing.assert_array_equal(last["future_end_s"], [5.0, np.nan, np.nan])


def test_overlapping_segments_are_all_listed_in_order_of_their_starts():
    table = segments((0, 20, 5), (4, 6, 6), (2, 30, 7), (25, 26, 8))
    assert futures(table, 4) == {
        "a0": [5, 7, 6, 8],
        "a2": [7, 6, 8, -100],  # by start: the segment before it has not ended, and is not in the future
        "a1": [6, 8, -100, -100],
        "a3": [8, -100, -100, -100],
    }


def test_segments_that_start_together_follow_in_the_order_of_the_table():
    table = segments((5, 6, 1), (5, 9, 2), (5, 5.5, 3), (1, 2, 0))
    assert futures(table, 3) == {"a0": [1, 2, 3], "a1": [2, 3, -100], "a2": [3, -100, -100], "a3": [0, 1, 2]}


def test_futures_end_with_their_video():
    table = pd.concat([segments((1, 2, 1), (3, 4, 2)), segments((0, 1, 3), (5, 6, 4), video="b")], ignore_index=True)
    assert futures(table, 3) == {"a0": [1, 2, -100], "a1": [2, -100, -100], "b0": [3, 4, -100], "b1": [4, -100, -100]}
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
    assert futures(shuffled, 3) == futures(table, 3)


def test_more_than_is_annotated_is_padded():
    assert futures(segments((1, 2, 1), (3, 4, 2)), 1024)["a0"] == [1, 2, *[-100] * 1022]


def test_whole_tables_equal_a_plain_loop():
    random = np.random.default_rng(0)
    starts = random.integers(0, 40, 120).astype(float)  # many start together
    table = pd.DataFrame({"video_id": random.choice(["a", "b", "c"], 120), "start_s": starts, "end_s": starts + 1})
    table = table.assign(action=random.integers(0, 9, 120), uid=[str(number) for number in range(120)])
    found = futures(table, 4)
    for uid, row in table.set_index("uid").iterrows():
        of_video = table[table["video_id"] == row["video_id"]]
        ordered = sorted(zip(of_video["start_s"], of_video.index, of_video["action"], strict=True))
        later = [action for start_s, index, action in ordered if (start_s, index) >= (row["start_s"], int(uid))]
        assert found[uid] == [*later, *4 * [-100]][:4]


def test_without_the_option_rows_features_and_cache_are_as_before(folder):
    plain, none = builder_of(folder), builder_of(folder, num_future_actions=0)
    assert none.cache_dir == plain.cache_dir
    assert not set(FUTURE_COLUMNS) & {*plain.rows("train"), *plain.info.features}
    assert "num_future_actions" not in plain.info.description
    with_future = builder_of(folder, num_future_actions=2)
    assert with_future.cache_dir != plain.cache_dir
    assert set(with_future.info.features) - set(plain.info.features) == set(FUTURE_COLUMNS)
    assert '"num_future_actions": 2' in with_future.info.description
    pd.testing.assert_frame_equal(with_future.rows("train").drop(columns=list(FUTURE_COLUMNS)), plain.rows("train"))


def test_futures_are_null_in_data_sets_where_annotations_end_and_survive_parquet(folder, tmp_path):
    options = {"cache_dir": str(tmp_path / "cache"), "num_future_actions": 2}
    rows = load_anticipation_dataset(str(folder), **options)["train"]
    assert rows[-1]["uid"] == "b_4.000"
    assert rows[-1]["future_actions"] == [2, -100]
    assert rows[-1]["future_start_s"] == [4.0, None]
    assert rows[-1]["future_end_s"] == [5.0, None]
    rows.to_parquet(tmp_path / "rows.parquet")
    again = datasets.load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path))
    assert again["train"].to_list() == rows.to_list()
    assert np.isnan(rows.with_format("numpy")[-1]["future_start_s"][1])


@pytest.mark.parametrize("value", [-1, 1.5, 2.0, "3", True, 1025])
def test_other_numbers_of_actions_are_refused(folder, value):
    message = "num_future_actions is .*: give a whole number from 0 to 1024"
    with pytest.raises(ValueError, match=message):
        builder_of(folder, num_future_actions=value)
    with pytest.raises(ValueError, match=message):
        RowOptions(num_future_actions=value)


def test_later_segments_change_futures_alone(folder):
    before = builder_of(folder, num_future_actions=3).rows("train").set_index("uid").loc["a_3.000"]
    write(folder, [*SEGMENTS[:2], "a,7,7.5,cut egg", "a,8,30,mix egg", "a,2.5,2.9,mix egg", "b,4,5,cut oil"])
    after = builder_of(folder, num_future_actions=3).rows("train").set_index("uid").loc["a_3.000"]
    assert before["future_actions"].tolist() == [2, 1, -100]
    assert after["future_actions"].tolist() == [2, 0, 2]
    for column in set(before.index) - set(FUTURE_COLUMNS) - {"action", "verb", "noun"}:
        assert np.array_equal(before[column], after[column]), column


class Zeros:
    feature_dim = 2

    def read(self, video_id, times_s):
        return np.zeros((len(times_s), 2), dtype=np.float32)


def test_batches_hold_futures_as_labels_alone(folder):
    plain = FeatureCollator(Zeros())(builder_of(folder).rows("train").to_dict("records"))
    batch = FeatureCollator(Zeros())(builder_of(folder, num_future_actions=5).rows("train").to_dict("records"))
    assert set(batch) == set(plain) | {"future_labels"}
    assert batch["future_labels"].shape == (len(plain["labels"]), 5)
    assert batch["future_labels"][:, 0].tolist() == plain["labels"].tolist()
    for name in set(plain) - {"uid"}:
        assert torch.equal(batch[name], plain[name]), name
