"""Breakfast: both file formats, splits by person, and how background is handled."""

import gzip
import json

import pytest
from helpers.places import require_shared

from avt_distill.data import anticipation_builder, load_anticipation_dataset
from avt_distill.data.benchmarks.breakfast import ACTIONS
from avt_distill.data.performances import performance_of
from avt_distill.data.segments import AnnotationError
from avt_distill.teacher.cross_fitting import assign_folds

HEADER = "video_id,start_frame,end_frame,action"
SEGMENTS = [
    "P03_cam01_P03_milk,0,30,SIL",
    "P03_cam01_P03_milk,30,90,take_cup",
    "P03_cam01_P03_milk,90,120,SIL",
    "P03_cam01_P03_milk,120,240,pour_milk",
    "P03_cam01_P03_milk,240,255,SIL",
    "P16_webcam01_P16_tea,0,45,take_cup",
    "P16_webcam01_P16_tea,45,75,add_teabag",
]
SIL, ADD_TEABAG, POUR_MILK, TAKE_CUP = (ACTIONS.index(name) for name in ("SIL", "add_teabag", "pour_milk", "take_cup"))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, SEGMENTS)
    return tmp_path


def write(folder, rows):
    (folder / "segments.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def builder_of(folder, **options):
    return anticipation_builder("breakfast", data_dir=folder, cache_dir=str(folder / "cache"), **options)


def test_rows_worked_out_by_hand(folder):
    rows = builder_of(folder, num_future_actions=2, num_frames=4, tau_o=4.0).rows("test")
    assert rows["uid"].tolist() == ["P03_cam01_P03_milk_30", "P03_cam01_P03_milk_120"]
    row = rows.iloc[1]  # 120 frames are 8 s; the window is [3, 7] s, take_cup ends at 6 s
    assert (row["start_s"], row["end_s"], row["action"]) == (8.0, 16.0, POUR_MILK)
    assert row["frame_times"].tolist() == [4.0, 5.0, 6.0, 7.0]
    assert row["past_actions"].tolist() == [TAKE_CUP, TAKE_CUP, -100, -100]
    assert row["history"].tolist() == [TAKE_CUP]
    assert rows.iloc[0]["future_actions"].tolist() == [TAKE_CUP, POUR_MILK]
    assert rows.iloc[0]["future_start_s"].tolist() == [2.0, 8.0]


def test_background_is_in_dense_segments_and_no_row(folder):
    builder = builder_of(folder)
    assert set(builder.rows("test")["action"]) == {TAKE_CUP, POUR_MILK}
    dense = builder.dense_segments("test")
    assert dense["action"].tolist() == [SIL, TAKE_CUP, SIL, POUR_MILK, SIL]
    assert dense["start_s"].tolist() == [0.0, *dense["end_s"][:-1]]  # no frame is left out
    assert builder.dropped == {"train": ["P16_webcam01_P16_tea_0"], "test": []}


def test_background_is_a_target_where_asked(folder):
    builder = builder_of(folder, background="include", num_future_actions=3, num_frames=4, tau_o=4.0)
    row = builder.rows("test").set_index("uid").loc["P03_cam01_P03_milk_90"]  # at 6 s; the window is [1, 5] s
    assert row["action"] == SIL
    assert row["past_actions"].tolist() == [TAKE_CUP] * 4
    assert row["history"].tolist() == [SIL, TAKE_CUP]
    assert row["future_actions"].tolist() == [SIL, POUR_MILK, SIL]
    assert builder.dense_segments("test") is builder.annotations.splits["test"]
    with pytest.raises(ValueError, match="background is 'yes': give"):
        builder_of(folder, background="yes")


def test_official_frame_labels_give_the_same_rows(folder, tmp_path):
    official = tmp_path / "official"
    (official / "groundTruth").mkdir(parents=True)
    labels: dict[str, list[str]] = {}
    for video, start, end, action in (row.split(",") for row in SEGMENTS):
        labels.setdefault(video, []).extend([action] * (int(end) - int(start)))
    for video, frames in labels.items():
        (official / "groundTruth" / f"{video}.txt").write_text("\n".join(frames) + "\n", encoding="utf-8")
    for split in ("train", "test"):
        ours, theirs = (builder_of(path).dense_segments(split) for path in (folder, official))
        assert ours.to_dict() == theirs.to_dict()
    (official / "groundTruth" / "P16_webcam01_P16_tea.txt").write_text("SIL\n\nSIL\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"P16_webcam01_P16_tea\.txt, line 2: '' is not an action of Breakfast"):
        builder_of(official).rows("train")


def test_compressed_files_are_read_and_damaged_ones_refused(folder):
    expected = builder_of(folder).rows("test")["uid"].tolist()
    packed = gzip.compress((folder / "segments.csv").read_bytes())
    (folder / "segments.csv").unlink()
    (folder / "segments.csv.gz").write_bytes(packed)
    assert builder_of(folder).rows("test")["uid"].tolist() == expected
    for damaged in (packed[:40], b"PK" + packed, packed[:30] + b"\0\0\0\0" + packed[34:]):
        (folder / "segments.csv.gz").write_bytes(damaged)
        with pytest.raises(AnnotationError, match=r"segments\.csv\.gz is damaged or incomplete"):
            builder_of(folder).rows("test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("P03_cam01_P03_milk,255,270,drink_milk", "line 9: 'drink_milk' is not an action of Breakfast"),
        ("P03_cam01_P16_milk,0,30,SIL", "'P03_cam01_P16_milk' is not named by person, camera, person and activity"),
        ("P55_cam01_P55_milk,0,30,SIL", "'P55_cam01_P55_milk' is not named .* persons P03 to P54"),
        ("kitchen,0,30,SIL", "'kitchen' is not named"),
        ("P03_cam01_P03_milk,x,270,SIL", "line 9: start_s is"),
    ],
)
def test_other_annotations_are_refused(folder, row, message):
    write(folder, [*SEGMENTS, row])
    with pytest.raises(AnnotationError, match=message):
        builder_of(folder).rows("test")


def test_missing_files_and_unknown_splits_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"neither segments\.csv, segments\.csv\.gz nor groundTruth"):
        builder_of(tmp_path / "empty").rows("test")
    with pytest.raises(ValueError, match=r"split5.*split1"):
        builder_of(folder, config_name="split5")
    with pytest.raises(AnnotationError, match="split3 leaves no segments in 'test'"):
        builder_of(folder, config_name="split3").rows("test")


def test_the_published_annotations(tmp_path):
    """1,712 videos and 48 actions; neither splits nor folds of training videos divide a performance."""
    data_dir, tested = require_shared("data", "breakfast"), []
    for split in range(1, 5):
        config_name = f"split{split}"
        builder = anticipation_builder("breakfast", data_dir=data_dir, config_name=config_name, cache_dir=str(tmp_path))
        parts = {name: set(builder.dense_segments(name)["video_id"]) for name in ("train", "test")}
        assert len(parts["train"] | parts["test"]) == 1712
        performances = {name: set(map(performance_of, videos)) for name, videos in parts.items()}
        assert performances["train"].isdisjoint(performances["test"])
        tested += [len(parts["test"])]
        dense = [builder.dense_segments(name) for name in parts]
        assert sum(map(len, dense)) == 11656
        assert sum(map(len, builder.annotations.splits.values())) == 8359
        assert len(set(dense[0]["action"]) | set(dense[1]["action"])) == len(ACTIONS) == 48
    assert tested == [252, 451, 433, 576]
    folds = assign_folds(builder.annotations.splits["train"]["video_id"].tolist(), 4)
    of_performance: dict[str, set[int]] = {}
    for video, fold in folds.items():
        of_performance.setdefault(performance_of(video), set()).add(fold)
    assert max(map(len, of_performance.values())) == 1


def test_it_is_built_by_name_with_its_options_in_the_description(folder):
    options = {"data_dir": folder, "cache_dir": str(folder / "cache"), "config_name": "split2"}
    splits = load_anticipation_dataset("breakfast", **options)
    assert splits["test"]["uid"][:] == ["P16_webcam01_P16_tea_45"]
    assert splits["test"][0]["action"] == ADD_TEABAG
    assert splits["test"].features["action"].names == list(ACTIONS)
    assert json.loads(splits["test"].info.description)["benchmark"] == "split2"
