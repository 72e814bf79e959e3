"""Preparing and exporting a data set from the command line; pushing it: tests/test_hub.py."""

import datasets
import pyarrow.parquet
import pytest
from helpers.commands import avt_distill
from helpers.videos import numbered_frames, write_video

from avt_distill.data import LabelSpace

SEGMENTS = "video_id,start_s,end_s,action\na,0.5,3,cut egg\na,3,6,mix egg\na,8,9,cut oil\n"


def test_export_is_parquet_with_labels_and_what_was_left_out(tmp_path, capsys):
    (tmp_path / "segments.csv").write_text(SEGMENTS)
    arguments = [str(tmp_path), "--cache_dir", str(tmp_path / "cache"), "--export", str(tmp_path / "out")]
    avt_distill("prepare_dataset", *arguments, "--tau_o", "4.0", "--num_frames", "4")
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].split() == ["train", "2", "1", "1", "42.9", "%"]  # 3 of 7 frames, without padding
    rows = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    assert rows["uid"][:] == ["a_3.000", "a_8.000"]
    assert len(rows[0]["frame_times"]) == 4
    assert LabelSpace.load(tmp_path / "out" / "labels.json").actions == ("cut egg", "cut oil", "mix egg")
    assert (tmp_path / "out" / "train_dropped.csv").read_text() == "a_0.500,0\n"


def test_an_export_holds_no_local_path_and_its_card_names_its_own_files(tmp_path):
    (tmp_path / "segments.csv").write_text(SEGMENTS)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", numbered_frames(100))
    arguments = [tmp_path, "--cache_dir", tmp_path / "cache", "--export", tmp_path / "out", "--tau_o", 4.0]
    avt_distill("prepare_dataset", *arguments, "--num_frames", 4, "--videos", tmp_path / "videos")
    rows = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    assert rows["video"][:] == ["a.mp4", "a.mp4"]
    assert not [path for path in (tmp_path / "out").iterdir() if str(tmp_path).encode() in path.read_bytes()]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "facts/" not in card
    assert "begins. They are listed in `<split>_dropped.csv`; `labels.json` contains the label space.\n\n|" in card


def test_errors_are_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"^error: .* is neither a benchmark"):
        avt_distill("prepare_dataset", tmp_path / "missing")
    with pytest.raises(SystemExit, match=r"^error: data_dir is None: give EgteaGazePlus the folder"):
        avt_distill("prepare_dataset", "egtea")
    for command in (["prepare_dataset", "csv"], ["export_soft_labels", "--dataset", "csv", "--ngram", 2]):
        with pytest.raises(SystemExit, match=r"^error: data_dir is None: give OwnData the folder"):
            avt_distill(*command)
    (tmp_path / "segments.csv").write_text(SEGMENTS)
    with pytest.raises(SystemExit, match=r"^error: protocol is 'RULSTM'"):
        avt_distill("prepare_dataset", tmp_path, "--cache_dir", tmp_path / "cache", "--protocol", "RULSTM")


@pytest.mark.parametrize("name", ["a::b", "file:x", "./~"])
def test_rows_are_exported_to_folders_whose_names_look_like_urls(tmp_path, monkeypatch, name):
    (tmp_path / "segments.csv").write_text(SEGMENTS)
    monkeypatch.chdir(tmp_path)
    arguments = [str(tmp_path), "--cache_dir", str(tmp_path / "cache"), "--export", name]
    avt_distill("prepare_dataset", *arguments, "--tau_o", "4.0", "--num_frames", "4")
    assert pyarrow.parquet.read_table(tmp_path / name / "train.parquet")["uid"].to_pylist() == ["a_3.000", "a_8.000"]
