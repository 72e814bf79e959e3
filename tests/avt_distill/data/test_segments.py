"""Segment tables: what is filled in, and one clear sentence for each thing that cannot be meant."""

import logging

import pytest

from avt_distill.data.labels import LabelSpace
from avt_distill.data.segments import AnnotationError, read_csv, segment_table

KITCHEN = LabelSpace(("cut egg", "mix egg", "mix oil"), ("cut", "mix"), ("egg", "oil"), ((0, 0), (1, 0), (1, 1)))
SEGMENTS = {
    "uid": ["a0", "a1", "b0"],
    "video_id": ["a", "a", "b"],
    "start_s": ["1.5", "4", "0"],
    "end_s": [4.0, 6.5, 2.0],
    "action": ["0", "2", "-100"],
}


def table(**changes):
    return segment_table("file.csv", KITCHEN, **{**SEGMENTS, **changes})


def test_verb_noun_and_narration_follow_from_the_action():
    segments = table()
    assert segments["start_s"].tolist() == [1.5, 4.0, 0.0]
    assert segments["verb"].tolist() == [0, 1, -100]
    assert segments["noun"].tolist() == [0, 1, -100]
    assert segments["narration"].tolist() == ["cut egg", "mix oil", ""]
    assert table(narration=["Cut it", "", "x"])["narration"].tolist() == ["Cut it", "", "x"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uid": ["a0", "a0", "b0"]}, "file.csv: uid 'a0' stands in two rows"),
        ({"end_s": [1.0, 6.5, 2.0]}, "segment 'a0' ends at 1.0 s, before it starts at 1.5 s"),
        ({"start_s": [-1, 4, 0]}, "segment 'a0' starts at -1.0 s"),
        ({"start_s": ["1.5", "soon", "0"]}, "file.csv, segment 2: start_s is 'soon': give a number"),
        ({"action": [0, 3, 1]}, "segment 'a1' has action 3: there are 3 actions"),
        ({"action": [0, -1, 1]}, "segment 'a1' has action -1"),
        ({"verb": [0, 2, 1]}, "segment 'a1' has verb 2: there are 2 verbs"),
        ({name: [] for name in SEGMENTS}, "file.csv holds no segments"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(AnnotationError, match=message):
        table(**changes)


def test_overlapping_segments_are_allowed_and_reported(caplog):
    with caplog.at_level(logging.INFO, logger="avt_distill.data.segments"):
        table()
        assert caplog.text == ""
        table(start_s=[1.5, 3.0, 0.0])
    assert "1 of 3 segments begin before an earlier one of their video ends" in caplog.text


def test_a_long_segment_overlaps_all_that_begin_in_it(caplog):
    with caplog.at_level(logging.INFO, logger="avt_distill.data.segments"):
        table(video_id=["a"] * 3, start_s=[0, 1, 5], end_s=[9, 2, 6])
    assert "2 of 3 segments" in caplog.text


def test_csv_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "segments.csv"
    with pytest.raises(AnnotationError, match="does not exist: give the folder"):
        read_csv(path)
    path.write_bytes("video_id,action\na,sautée\n".encode("latin-1"))
    with pytest.raises(AnnotationError, match="is not UTF-8 text"):
        read_csv(path)
    path.write_text("")
    with pytest.raises(AnnotationError, match="cannot be read as CSV"):
        read_csv(path)


def test_csv_values_are_text_without_the_blanks_around_them(tmp_path):
    path = tmp_path / "actions.csv"
    path.write_text("id, action\n007,  take pan \n008, NA\n")
    assert read_csv(path).to_dict("list") == {"id": ["007", "008"], "action": ["take pan", "NA"]}
