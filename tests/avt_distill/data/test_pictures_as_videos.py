"""Folders of pictures wherever videos are accepted: in data sets, collators and feature extraction."""

import numpy as np
import pytest
from helpers.videos import numbered_frames, write_pictures

from avt_distill.data import anticipation_builder
from avt_distill.data.videos import find_videos, videos_with_rate
from modeling_avt.video_io_avt import read_frames

FRAMES = numbered_frames(60)


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        write_pictures(tmp_path / "videos" / "kitchen" / name, FRAMES)
    (tmp_path / "segments.csv").write_text("video_id,start_s,end_s,action\na,4,5,cut\nb,5,5.5,mix\n")
    return tmp_path


def test_rows_name_pictures_with_their_rate(folder):
    rows = anticipation_builder(str(folder), video_fps=10.0, cache_dir=str(folder / "cache")).rows("train")
    row = rows.iloc[0]
    assert row["frame_indices"][-1] == 30
    shown = read_frames(row["video"], row["frame_times"][row["frame_mask"]])
    np.testing.assert_array_equal(shown[-1], FRAMES[30])


def test_pictures_without_a_rate_are_no_videos(folder):
    with pytest.raises(ValueError, match="Folders of numbered pictures are videos if their rate is given: video_fps"):
        anticipation_builder(str(folder), cache_dir=str(folder / "cache"))
    with pytest.raises(ValueError, match="There is no video"):
        find_videos([folder])
    assert list(videos_with_rate([folder], 10.0)) == ["a", "b"]


@pytest.mark.parametrize(("working", "source"), [("a", "."), ("a/inner", ".."), (".", "a/")])
def test_the_working_folder_is_named_as_any_other_folder_of_pictures(folder, monkeypatch, working, source):
    (folder / "videos" / "kitchen" / "a" / "inner").mkdir()
    monkeypatch.chdir(folder / "videos" / "kitchen" / working)
    assert list(find_videos([source], pictures=True)) == ["a"]
    assert read_frames(videos_with_rate([source], 10.0)["a"], [0.0]).shape == (1, *FRAMES.shape[1:])


def test_pictures_that_end_before_their_annotations_are_refused(folder):
    builder = anticipation_builder(str(folder), video_fps=30.0, cache_dir=str(folder / "cache"))
    with pytest.raises(ValueError, match=r"lasts 2\.0 s, but is annotated until 5\.0 s"):
        builder.rows("train")
