"""EPIC-Tent: runs of true steps, their times, and the recognized steps."""

import gzip
import json
from itertools import groupby

import pytest
from helpers.places import require_shared

from avt_distill.data import anticipation_builder
from avt_distill.data.benchmarks.epic_tent import STEPS, recognized_steps
from avt_distill.data.segments import AnnotationError

VIDEOS = {
    f"annotations_{number}": {"pred": [4] * 500 + [0] * 100, "gt": [4] * 300 + [10] * 240 + [0] * 60}
    for number in (1, 2, 3, 10, 20)
}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, VIDEOS)
    return tmp_path


def write(folder, content):
    (folder / "recognised_steps.json").write_text(json.dumps(content), encoding="utf-8")


def builder_of(folder, **options):
    return anticipation_builder("epic_tent", data_dir=folder, cache_dir=str(folder / "cache"), **options)


def test_rows_worked_out_by_hand(folder):
    rows = builder_of(folder, video_fps=60.0, num_frames=3, num_future_actions=2).rows("test")
    assert rows["uid"].tolist() == ["annotations_1_300", "annotations_1_540"]  # the first step starts with the video
    row = rows.iloc[1]  # 540 frames are 9 s
    assert (row["start_s"], row["end_s"], row["action"]) == (9.0, 10.0, STEPS.index("assemble support"))
    assert row["frame_times"].tolist() == [6.0, 7.0, 8.0]
    assert row["past_actions"].tolist() == [10, 10, 10]
    assert row["history"].tolist() == [4, 10]
    assert row["future_actions"].tolist() == [0, -100]
    assert row["narration"] == "assemble support"


def test_frames_are_those_of_59_94_a_second(folder):
    assert builder_of(folder).rows("test")["start_s"].tolist() == pytest.approx([5.005, 9.009], abs=1e-9)


def test_folds_are_by_video_in_order_of_their_numbers(folder):
    tested = [builder_of(folder, config_name=f"fold{fold}").annotations.splits["test"] for fold in range(1, 6)]
    assert [set(table["video_id"]) for table in tested] == [{f"annotations_{n}"} for n in (1, 2, 3, 10, 20)]
    assert list(builder_of(folder).folds()) == ["fold1", "fold2", "fold3", "fold4", "fold5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no videos"),
        ({"a": [1]}, "video 'a' has no 'pred' and 'gt' of as many frames"),
        ({"a": {"pred": [1], "gt": [1, 1]}}, "video 'a' has no 'pred' and 'gt' of as many frames"),
        ({"a": {"pred": [12], "gt": [1]}}, "video 'a' has the step 12: steps are 0 to 11"),
        ({"a": {"pred": [1], "gt": [1.5]}}, r"video 'a' has the step 1\.5"),
        ({"a": {"pred": [1], "gt": [1]}}, "has 1 videos: 5 folds need that many or more"),
    ],
)
def test_other_files_are_refused(folder, content, message):
    write(folder, content)
    with pytest.raises(AnnotationError, match=message):
        builder_of(folder).rows("test")


def test_a_missing_or_damaged_file_a_video_folder_and_another_fold_are_refused(folder):
    with pytest.raises(AnnotationError, match=r"videos is .* omits frames without a step"):
        builder_of(folder, videos="videos")
    with pytest.raises(ValueError, match=r"fold6.*fold1"):
        builder_of(folder, config_name="fold6")
    (folder / "recognised_steps.json").write_text("{", encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"recognised_steps\.json is not JSON"):
        builder_of(folder).rows("test")
    (folder / "recognised_steps.json").unlink()
    with pytest.raises(AnnotationError, match=r"neither recognised_steps\.json nor recognised_steps\.json\.gz"):
        builder_of(folder).rows("test")
    (folder / "recognised_steps.json.gz").write_bytes(gzip.compress(json.dumps(VIDEOS).encode())[:-12])
    with pytest.raises(AnnotationError, match="is damaged or incomplete"):
        builder_of(folder).rows("test")


def test_the_published_recognizer(tmp_path):
    """15 videos, 12 steps, and the lengths of the first segments of subject 1 in the public annotations."""
    data_dir = require_shared("data", "epic_tent")
    steps = recognized_steps(data_dir)
    assert len(steps) == 15
    assert sum(len(true) for _, true in steps.values()) == 187_959
    assert set().union(*(true.tolist() for _, true in steps.values())) <= set(range(len(STEPS)))
    right = sum((recognized == true).sum() for recognized, true in steps.values())
    assert round(100 * right / 187_959, 1) == 57.5
    runs = [(step, len(list(frames))) for step, frames in groupby(steps["annotations_1"][1].tolist())]
    assert runs[:2] == [(4, 317 - 269), (10, 1726 - 367)]
    builder = anticipation_builder("epic_tent", data_dir=data_dir, cache_dir=str(tmp_path))
    assert {name: len(table) for name, table in builder.annotations.splits.items()} == {"train": 139, "test": 29}
    assert builder.annotations.label_space.actions == STEPS
    assert len(STEPS) == 12
