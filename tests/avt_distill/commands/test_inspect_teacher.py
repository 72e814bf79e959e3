"""Inspecting a teacher: the table worked out by hand, the picture, and refusals of soft labels of other rows."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import avt_distill

from avt_distill.data import anticipation_builder
from avt_distill.data.labels import LabelSpace
from avt_distill.teacher.soft_labels import SoftLabelTable, rows_fingerprint

# Ids by name: cut 0, fry 1, mix 2, peel 3, salt 4, wash 5. The first action starts too early to be anticipated.
SEGMENTS = """video_id,start_s,end_s,action,split
a,0.2,2,wash,test
a,3,6,cut,test
a,8,9,mix,test
a,9,12,,test
a,13,14,fry,test
b,5,6,salt,test
c,5,6,peel,train
"""
# a_3.000 cut: first; a_8.000 mix: third; a_9.000: unlabelled; a_13.000 fry: last; b_5.000 salt: first.
LOGITS = np.log([[6, 1, 1, 1, 1, 2], [3, 1, 2, 4, 1, 1], [1, 1, 1, 1, 1, 7], [6, 1, 2, 3, 4, 5], [1, 1, 1, 1, 8, 1]])


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "segments.csv").write_text(SEGMENTS)
    return tmp_path


def options(folder: Path, *further: str, video: str = "a", split: str = "test") -> list[str]:
    named = ["--split", split, "--video", video, "--cache_dir", str(folder / "cache"), *further]
    return [str(folder / "soft_labels.parquet"), str(folder), *named]


def save(folder: Path, metadata: dict | None = None, rows=slice(None), **set_):
    """Saves soft labels of the rows of `test`, built with the options `set_`; metadata that are `None` are left out."""
    builder = anticipation_builder(str(folder), cache_dir=str(folder / "cache"), **set_)
    test = builder.rows("test")
    fields = {
        "label_space_hash": builder.annotations.label_space.content_hash,
        "model": "counts",
        "history_cutoff": builder.config.history_cutoff,
        "tau_a": builder.config.tau_a,
        "labelled": rows_fingerprint(test),
        **(metadata or {}),
    }
    fields = {key: value for key, value in fields.items() if value is not None}
    SoftLabelTable(test["uid"].tolist()[rows], LOGITS[rows], fields).save(folder / "soft_labels.parquet")


def test_the_table_lists_past_actions_and_the_rank_of_the_true_one(folder, capsys):
    save(folder)
    avt_distill("inspect_teacher", *options(folder, "--history", "2"))
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "teacher counts: history_cutoff started, tau_a 1.0 s, temperature 1"
    words = [" ".join(line.split()) for line in lines]
    assert words[1] == "start uid verdict rank truth past actions (the last 2)"
    assert words[2] == "3.0 s a_3.000 top 1 1 cut wash"
    assert lines[3].strip() == "50.0 % cut | 16.7 % wash | 8.3 % fry | 8.3 % mix | 8.3 % peel"
    assert words[4] == "8.0 s a_8.000 top 5 3 mix wash > cut"
    assert words[6] == "9.0 s a_9.000 unlabelled ? ? wash > cut"  # mix starts at 8 s, too late
    assert words[8] == "13.0 s a_13.000 miss 6 fry ... > cut > mix"
    assert lines[9].strip() == "28.6 % cut | 23.8 % wash | 19.0 % salt | 14.3 % peel | 9.5 % mix"
    assert lines[10] == "a: 4 rows, 1 unlabelled, top-1 33.3 %, top-5 66.7 %"
    assert printed.err == ""


def test_an_empty_history_is_shown_as_none_and_temperature_flattens(folder, capsys):
    save(folder)
    avt_distill("inspect_teacher", *options(folder, "--temperature", "2", video="b"))
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[2].split()) == "5.0 s b_5.000 top 1 1 salt none"
    share = 100 * np.sqrt(8) / (np.sqrt(8) + 5)
    assert lines[3].strip().startswith(f"{share:.1f} % salt | ")


def test_options_of_the_data_set_are_those_of_every_command(folder, capsys):
    save(folder, history_cutoff="ended", tau_a=0.5)
    avt_distill("inspect_teacher", *options(folder, "--history_cutoff", "ended", "--tau_a", "0.5"))
    assert "history_cutoff ended, tau_a 0.5 s" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Argument --tau_a: invalid float value: 'half'"):
        avt_distill("inspect_teacher", *options(folder, "--tau_a", "half"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "validation"}, r"no split 'validation': give one of \['test', 'train'\]"),
        ({"video": "d"}, r"no row of a video 'd': give one of its 2, such as \['a', 'b'\]"),
        ({"video": "c"}, "no row of a video 'c'"),
    ],
)
def test_unknown_splits_and_videos_are_refused_with_what_there_is(folder, changes, message):
    save(folder)
    with pytest.raises(SystemExit, match=rf"^error: .*{message}"):
        avt_distill("inspect_teacher", *options(folder, **changes))


def test_soft_labels_of_other_actions_are_refused(folder):
    save(folder, {"label_space_hash": LabelSpace(("fry",)).content_hash})
    with pytest.raises(SystemExit, match=r"^error: The soft labels are of 6 actions .* stand for other actions"):
        avt_distill("inspect_teacher", *options(folder))
    (folder / "soft_labels.parquet").unlink()
    with pytest.raises(SystemExit, match=r"^error: .*soft_labels.parquet"):
        avt_distill("inspect_teacher", *options(folder))


def test_histories_that_the_teacher_did_not_read_are_refused(folder):
    save(folder, history_cutoff="segment_start")
    with pytest.raises(SystemExit, match="the rows started: give --history_cutoff segment_start; otherwise"):
        avt_distill("inspect_teacher", *options(folder))
    save(folder, tau_a=0.25)
    with pytest.raises(SystemExit, match=r"have tau_a 0.25, the rows 1.0: give --tau_a 0.25; otherwise the histories"):
        avt_distill("inspect_teacher", *options(folder))
    save(folder)
    (folder / "segments.csv").write_text(
        SEGMENTS.replace("0.2,2,wash", "0.2,2,peel").replace("c,5,6,peel", "c,5,6,wash")
    )
    with pytest.raises(SystemExit, match=r"are of rows \w{16}, not of \w{16}, which have other actions or histories"):
        avt_distill("inspect_teacher", *options(folder))


def test_rows_that_cannot_be_verified_are_warned_about(folder, capsys):
    save(folder, {"labelled": None})
    avt_distill("inspect_teacher", *options(folder))
    assert capsys.readouterr().err.startswith("warning: the soft labels do not record which rows they belong to: make")
    save(folder, rows=slice(0, 4))
    avt_distill("inspect_teacher", *options(folder))
    assert capsys.readouterr().err.startswith("warning: the soft labels cover other rows than the split: make sure")
    with pytest.raises(SystemExit, match=r"^error: The soft labels lack 1 of 1 uids, 'b_5.000' first"):
        avt_distill("inspect_teacher", *options(folder, video="b"))


def test_the_picture_grows_with_the_video(folder, capsys):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    save(folder)
    heights = {}
    for video in ("a", "b"):
        path = folder / f"{video}.png"
        avt_distill("inspect_teacher", *options(folder, "--plot", str(path), video=video))
        assert capsys.readouterr().out.endswith(f"Picture saved to {path}\n")
        picture = imread(path)
        heights[video] = picture.shape[0]
        assert (picture[..., :3] < 0.9).any(axis=-1).mean() > 0.01  # the picture is not blank
    assert heights["a"] - heights["b"] == pytest.approx(3 * 0.24 * 130, abs=25)  # three rows, and two lines of the key


def test_a_picture_without_matplotlib_is_refused_before_any_work(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"--plot needs matplotlib: pip install 'avt-distill\[plots\]'"):
        avt_distill("inspect_teacher", *options(folder, "--plot", "teacher.png"))  # soft labels do not exist yet


@pytest.mark.parametrize("option", [("--temperature", "0"), ("--temperature", "nan"), ("--history", "0")])
def test_options_out_of_range_are_refused(folder, option):
    with pytest.raises(SystemExit, match="give a positive number"):
        avt_distill("inspect_teacher", *options(folder, *option))
