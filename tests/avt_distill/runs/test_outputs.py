"""No command replaces its input, or a file that it did not create."""

import json
import os
import shutil

import numpy as np
import pytest
from helpers.commands import run_command
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config

from avt_distill.data import LabelSpace
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.runs.outputs import check_different, check_output, has_mark, is_json_with, mark_of

LOST = "otherwise the input would be lost"
NOT_MADE = "this command did not write it"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model(tiny_vit_config()).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def scores(tmp_path):
    table = ScoreTable([f"a_{n}" for n in range(6)], np.eye(6, 4), np.array([0, 1, 2, 3, 0, 1]))
    table.save(tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet"


def test_an_output_is_never_an_input(tmp_path):
    (tmp_path / "folder").mkdir()
    source = tmp_path / "folder" / "in.txt"
    source.write_text("mine")
    (tmp_path / "link.txt").symlink_to(source)
    os.link(source, tmp_path / "hard.txt")
    links = (tmp_path / "link.txt", tmp_path / "hard.txt", tmp_path / "folder" / ".." / "folder" / "in.txt")
    for output in (source, *links):
        with pytest.raises(ValueError, match=LOST):
            check_output("--json", output, {"VIDEO": source}, overwrite=True, made_here=lambda _: True)
    for folder in (tmp_path, tmp_path / "folder"):
        with pytest.raises(ValueError, match=LOST):
            check_output("output", folder, {"checkpoint": [None, "user/name", source]}, overwrite=True, writes=())
    with pytest.raises(ValueError, match=LOST):  # a file of a folder that is read
        check_output("--json", source, {"--model": tmp_path / "folder"}, overwrite=True)
    check_output("--json", tmp_path / "folder" / "new.json", {"--model": tmp_path / "folder"})
    check_output("--json", "-", {"VIDEO": source})


def test_files_of_other_commands_need_overwrite(tmp_path):
    path = tmp_path / "notes.json"
    path.write_text('{"moments": [], "video": "b.mp4"}')
    for made_here in (is_json_with("moments", video="a.mp4"), is_json_with("rows"), has_mark("avt-distill x")):
        with pytest.raises(ValueError, match=r"notes\.json exists, and this command did not write it"):
            check_output("--json", path, {}, made_here=made_here)
        check_output("--json", path, {}, made_here=made_here, overwrite=True)
    check_output("--json", path, {}, made_here=is_json_with("moments", video="b.mp4"))
    with pytest.raises(ValueError, match="which is a folder: give the name of a file"):
        check_output("--json", tmp_path, {}, overwrite=True)
    with pytest.raises(ValueError, match="which is a file: give the name of a folder"):
        check_output("output", path, {}, overwrite=True, writes=("config.json",))
    with pytest.raises(ValueError, match="--json and --video are both"):
        check_different({"--json": path, "--video": tmp_path / "." / "notes.json"})


def test_names_of_another_format_are_refused(tmp_path):
    for name in ("t.png", "T.PNG"):
        check_output("--timeline", tmp_path / name, {}, ending=".png")
    for name in ("t.jpg", "t", "t.png.pdf"):
        with pytest.raises(ValueError, match=rf"--timeline is .*{name}, but .*: give a name that ends in \.png\.$"):
            check_output("--timeline", tmp_path / name, {}, overwrite=True, ending=".png")


def test_pictures_and_videos_of_another_format_are_refused_before_any_work(tmp_path):
    video = ["anticipate", "video.mp4", "--model", "none", "--every", 1]
    table = ["inspect_teacher", "soft_labels.parquet", "demo", "--split", "test", "--video", "v0"]
    pytest.importorskip("matplotlib")
    for words, option, name, ending in (
        (video, "--timeline", "t.jpg", ".png"),
        (video, "--video", "o.avi", ".mp4"),
        (table, "--plot", "t.svg", ".png"),
    ):
        result = run_command(*words, option, name, folder=tmp_path)
        assert result.returncode == 1
        assert result.stderr == (
            f"error: {option} is {name}, but what it writes is {ending}: give a name that ends in {ending}.\n"
        )


def test_anticipate_keeps_its_video(checkpoint, video, tmp_path):
    mine = tmp_path / "mine.mp4"
    shutil.copy(video, mine)
    (tmp_path / "link.mp4").symlink_to(mine)
    (tmp_path / "notes.png").write_bytes(b"a picture of mine")
    content = mine.read_bytes()
    for options in (["--video", mine], ["--json", mine], ["--timeline", mine], ["--video", tmp_path / "link.mp4"]):
        result = run_command("anticipate", mine, "--model", checkpoint, "--every", 2, *options, "--overwrite")
        assert (result.returncode, LOST in result.stderr) == (1, True)
    result = run_command("anticipate", mine, "--model", checkpoint, "--json", checkpoint / "config.json", "--overwrite")
    assert LOST in result.stderr
    result = run_command("anticipate", mine, "--model", checkpoint, "--every", 2, "--timeline", tmp_path / "notes.png")
    assert NOT_MADE in result.stderr
    assert (mine.read_bytes(), (tmp_path / "notes.png").read_bytes()) == (content, b"a picture of mine")


def test_anticipate_replaces_what_it_made_itself(checkpoint, video, tmp_path):
    pytest.importorskip("matplotlib")
    outputs = ["--json", tmp_path / "a.json", "--timeline", tmp_path / "a.png", "--video", tmp_path / "a.mp4"]
    for _ in range(2):
        result = run_command("anticipate", video, "--model", checkpoint, "--every", 3, *outputs)
        assert result.returncode == 0, result.stderr
    assert not list(tmp_path.glob(".*"))  # temporary files are renamed
    other = tmp_path / "other.mp4"
    shutil.copy(video, other)
    for option, name in (("--json", "a.json"), ("--timeline", "a.png"), ("--video", "a.mp4")):
        content = (tmp_path / name).read_bytes()
        result = run_command("anticipate", other, "--model", checkpoint, "--every", 3, option, tmp_path / name)
        assert NOT_MADE in result.stderr
        assert (tmp_path / name).read_bytes() == content
    result = run_command("anticipate", other, "--model", checkpoint, "--json", tmp_path / "a.json", "--overwrite")
    assert result.returncode == 0
    assert json.loads((tmp_path / "a.json").read_text())["video"] == str(other)


def test_evaluations_and_comparisons_keep_their_scores(scores, tmp_path):
    content = scores.read_bytes()
    (tmp_path / "notes.txt").write_text("mine")
    evaluate, compare = ["evaluate", scores], ["compare_runs", "--baseline", scores, "--candidate", scores]
    for command in (evaluate, [*compare, "--num_resamples", 10]):
        assert LOST in run_command(*command, "--output", scores, "--overwrite").stderr
        assert NOT_MADE in run_command(*command, "--output", tmp_path / "notes.txt").stderr
        for _ in range(2):
            result = run_command(*command, "--output", tmp_path / f"{command[0]}.json")
            assert result.returncode == 0, result.stderr
    assert NOT_MADE in run_command(*evaluate, "--output", tmp_path / "compare_runs.json").stderr
    assert run_command(*evaluate, "--output", tmp_path / "compare_runs.json", "--overwrite").returncode == 0
    assert (scores.read_bytes(), (tmp_path / "notes.txt").read_text()) == (content, "mine")


def test_an_export_keeps_a_readme_and_the_labels_of_the_data(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "segments.csv").write_text("video_id,start_s,end_s,action\na,20,21,cut\na,30,31,mix\n")
    LabelSpace(["mix", "cut"]).save(data / "labels.json")
    labels = (data / "labels.json").read_bytes()
    export = ["prepare_dataset", data, "--cache_dir", tmp_path / "cache", "--export"]
    assert LOST in run_command(*export, data, "--overwrite").stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# Mine\n")
    assert NOT_MADE in run_command(*export, tmp_path / "mine").stderr
    assert (tmp_path / "mine" / "README.md").read_text() == "# Mine\n"
    for _ in range(2):
        result = run_command(*export, tmp_path / "out")
        assert result.returncode == 0, result.stderr
    assert (data / "labels.json").read_bytes() == labels


def test_marks_differ_by_what_was_read():
    assert mark_of("anticipate", "a", "b") == mark_of("anticipate", "a", "b")
    assert len({mark_of("anticipate", "a", "b"), mark_of("anticipate", "ab", ""), mark_of("demo", "a", "b")}) == 3
