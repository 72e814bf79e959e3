"""Foreign names never lead out of a folder, control a terminal or reveal a machine's paths."""

import json

import numpy as np
import pytest
from helpers.commands import run_command

from avt_distill.data import anticipation_builder
from avt_distill.features.extraction import extract_features
from avt_distill.features.stores import SafetensorsFeatureStore, feature_file, write_features
from avt_distill.runs.names import file_name, printable, without_local_paths

LEADING_OUT = (
    *(
        "../../x",
        "/x",
        "..",
        ".",
        "",
        "a/b",
        "a\\..\\x",
        "..\\x",
        "C:x",
        "c:\\x",
        "a\0b",
        "a\nb",
        "x\x1b[2J",
        "x" * 201,
    ),
    "../\u00e9",
)


@pytest.mark.parametrize("name", LEADING_OUT)
def test_names_that_lead_out_of_the_folder_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="cannot be part of a file's name: rename it"):
        file_name(name)
    with pytest.raises(ValueError, match="cannot be part of a file's name"):
        feature_file(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["P01_01", "OP01-R01-PastaSalad", "my video (2)", "\u00e9t\u00e9", "a.b", "..a", "x" * 200]
)
def test_names_of_videos_are_kept(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", ["../../escaped", "{folder}/absolute", "..\\escaped"])
def test_a_key_of_an_npz_file_writes_nothing_outside(name, tmp_path):
    name = name.format(folder=tmp_path)
    rows = np.ones((20, 4), dtype=np.float32)
    np.savez(tmp_path / "e.npz", **{"ok": rows, name: rows})
    (tmp_path / "a" / "b").mkdir(parents=True)
    options = ["--frame_rate", 1, "--windows_s", 2, "--output", tmp_path / "a" / "b" / "out"]
    result = run_command("add_feature_memory", tmp_path / "e.npz", *options)
    assert result.returncode == 1
    assert "cannot be part of a file's name" in result.stderr
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_store_reads_nothing_outside(tmp_path):
    (tmp_path / "store").mkdir()
    for path in (tmp_path / "outside.safetensors", tmp_path / "store" / "a.safetensors"):
        write_features(path, np.ones((4, 2)), 1.0)
    store = SafetensorsFeatureStore(tmp_path / "store")
    for name in ("../outside", str(tmp_path / "outside")):
        with pytest.raises(ValueError, match="cannot be part of a file's name"):
            store.read(name, [0.0])


def test_extraction_writes_nothing_outside(tmp_path, video):
    results = extract_features({"../outside": video}, tmp_path / "store", None, None, 1.0)
    with pytest.raises(ValueError, match="cannot be part of a file's name"):
        next(results)


@pytest.mark.parametrize("name", ["../../x", "/x", "a\\b"])
def test_annotations_of_videos_outside_are_refused(name, tmp_path):
    (tmp_path / "segments.csv").write_text(f"video_id,start_s,end_s,action\nok,1,2,cut\n{name},1,2,cut\n")
    with pytest.raises(ValueError, match=r"segments\.csv.*cannot be part of a file's name"):
        _ = anticipation_builder(tmp_path).annotations


def test_folds_outside_are_refused(tmp_path):
    (tmp_path / "segments.csv").write_text("video_id,start_s,end_s,action,fold\na,1,2,cut,1\nb,1,2,cut,../../x\n")
    with pytest.raises(ValueError, match=r"The fold '\.\./\.\./x' cannot be part of a file's name"):
        anticipation_builder(tmp_path).folds()


def test_escape_codes_in_names_are_made_harmless():
    assert printable("a\x1b[2Jb\x9b\u202ec\td\n") == "a\\u001b[2Jb\\u009b\\u202ec\td\n"
    assert json.loads(printable(json.dumps("\x9b", ensure_ascii=False))) == "\x9b"


def test_paths_of_the_machine_are_shortened():
    value = {
        "a": "/a/b/teacher",
        "b": ["C:\\me\\x", "user/name", "/a/x, /b/y"],
        "c": 1.5,
        "d": "10/11",
        "e": "~/x/y",
    }
    shared = {"a": "teacher", "b": ["x", "user/name", "x, y"], "c": 1.5, "d": "10/11", "e": "y"}
    assert without_local_paths(value) == shared
