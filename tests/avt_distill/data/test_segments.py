"""Segment tables: what is filled in, and one clear sentence for each kind of invalid input."""

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
        ({"uid": ["a0", "a0", "b0"]}, "file.csv: uid 'a0' is in two rows"),
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_id": ["a", " ", "b"]}, "segment 2 has no video_id"),
        ({"uid": ["a0", "a1", ""]}, "segment 3 has no uid"),
        ({"end_s": ["4", "inf", "2"]}, "segment 2: end_s is 'inf': give a finite number"),
        ({"end_s": ["4", "6", "nan"]}, "segment 3: end_s is 'nan'"),
        ({"start_s": ["1.5", "-1e999", "0"]}, "segment 2: start_s is '-1e999'"),
        ({"action": ["0", "1.5", "1"]}, "segment 2: action is '1.5': give a whole number"),
    ],
)
def test_refuses_blank_names_and_invalid_numbers(changes, message):
    with pytest.raises(AnnotationError, match=message):
        table(**changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,action\n1,cut,\n", "line 2 has 3 fields, but the first line has 2"),
        ("id,action\n1,cut\n\n2\n", "line 4 has 1 fields, but the first line has 2"),
        ('id,action\n1,"cut\nit"\n2,a,b\n', "line 4 has 3 fields"),
        ("id,action,id\n1,cut,2\n", "names the column 'id' twice"),
        ('id,action\n1,"cut\n', "cannot be read as CSV"),
    ],
)
def test_lines_of_another_length_are_refused_with_their_number(tmp_path, content, message):
    path = tmp_path / "segments.csv"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=message):
        read_csv(path)


def test_a_byte_order_mark_and_a_column_of_row_numbers_are_read(tmp_path):
    path = tmp_path / "segments.csv"
    path.write_bytes(b"\xef\xbb\xbfid,,action\r\n1,0,cut\r\n")
    assert read_csv(path, "id").to_dict("list") == {"id": ["1"], "column 2": ["0"], "action": ["cut"]}


def test_what_is_wrong_in_a_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "segments.csv"
    path.write_text("uid,video_id,start_s,end_s,action\n\nx,a,1,2,0\ny,a,3,inf,0\n")
    rows = read_csv(path)
    with pytest.raises(AnnotationError, match=r"segments\.csv, line 4: end_s is 'inf'"):
        segment_table(path, KITCHEN, **{name: rows[name] for name in rows})
