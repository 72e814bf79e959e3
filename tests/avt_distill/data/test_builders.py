"""Data sets from annotations: rows worked out by hand, no look ahead, caching by content, and misuse."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.places import require_shared
from helpers.videos import numbered_frames, write_pictures, write_video

from avt_distill.data import LabelSpace, anticipation_builder, load_anticipation_dataset
from avt_distill.data.benchmarks.epic_kitchens import read_official
from avt_distill.data.collator import VideoCollator
from avt_distill.data.future import FUTURE_COLUMNS
from avt_distill.data.rows import RowOptions, anticipation_rows
from avt_distill.data.segments import AnnotationError
from modeling_avt import AVTVideoProcessor

HEADER = "video_id,start_s,end_s,action"
SEGMENTS = [
    "a,0.5,3,cut egg",
    "a,3,6,mix egg",
    "a,8,9,cut oil",
    "b,4,5,mix egg",
]
COLUMNS = {
    "uid",
    "video_id",
    "video",
    "start_s",
    "end_s",
    "observed_start_s",
    "observed_end_s",
    "frame_times",
    "frame_indices",
    "frame_mask",
    "past_actions",
    "action",
    "verb",
    "noun",
    "history",
    "narration",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write(folder, rows=SEGMENTS, header=HEADER):
    (folder / "segments.csv").write_text("\n".join([header, *rows]) + "\n")


def load(folder, **options):
    fields = {"cache_dir": str(folder.parent / "cache"), "tau_o": 4.0, "num_frames": 4}
    return load_anticipation_dataset(str(folder), **{**fields, **options})


def test_rows_worked_out_by_hand(folder):
    write(folder)
    rows = load(folder)["train"]
    assert set(rows.column_names) == COLUMNS
    assert rows["uid"][:] == ["a_3.000", "a_8.000", "b_4.000"]  # a_0.500 starts before anything can be observed
    assert rows.features["action"].names == ["cut egg", "cut oil", "mix egg"]
    row = rows[1]  # cut oil at 8 s in video a
    assert (row["action"], row["start_s"], row["end_s"]) == (1, 8.0, 9.0)
    assert (row["observed_start_s"], row["observed_end_s"]) == (3.0, 7.0)
    assert row["frame_times"] == [4.0, 5.0, 6.0, 7.0]
    assert row["frame_mask"] == [True] * 4
    assert row["past_actions"] == [2, 2, -100, -100]
    assert row["history"] == [0, 2]
    assert row["narration"] == "cut oil"
    assert row["video"] is None
    first = rows[0]  # mix egg at 3 s: the window is [-2, 2]
    assert first["frame_times"] == [-1.0, 0.0, 1.0, 2.0]
    assert first["frame_mask"] == [False, True, True, True]
    assert first["past_actions"] == [-100, -100, 0, 0]
    assert json.loads(rows.info.description)["dropped"] == {"train": ["a_0.500"]}
    by_name = load_anticipation_dataset("csv", data_dir=folder, cache_dir=str(folder), tau_o=4.0, num_frames=4)
    assert by_name["train"].to_list() == rows.to_list()


def test_nothing_after_the_observed_window_shows_in_a_row(folder):
    write(folder)
    before = load(folder)["train"][1]
    later = [
        "a,0.5,3,cut egg",
        "a,3,6,mix egg",
        "a,8,60,mix egg",
        "a,7.1,7.5,cut oil",
        "a,7.2,8.5,cut egg",
        "a,9,30,cut oil",
    ]
    write(folder, [*later, "b,4,5,mix egg"])
    after = load(folder)["train"][1]
    assert after["start_s"] == before["start_s"]
    target = {"action", "verb", "noun", "narration", "end_s"}
    assert {name: before[name] for name in COLUMNS - target} == {name: after[name] for name in COLUMNS - target}


BENCHMARKS = {
    "epic_kitchens_55": ("annotations/ek55", "official", "validation"),
    "epic_kitchens_100": ("annotations/ek100", "rulstm", "validation"),
    "egtea": ("annotations/egtea", "split1_complete", "validation"),
    "fifty_salads": ("salads50", "fold1", "test"),
    "breakfast": ("breakfast", "split1", "test"),
    "epic_tent": ("epic_tent", "fold1", "test"),
}


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("protocol", ["exact", "avt"])
def test_benchmarks_do_not_look_ahead(name, protocol, tmp_path):
    """Changing the action and times of all segments that begin after a row's window must leave the row unchanged."""
    folder, config_name, split = BENCHMARKS[name]
    options = {"config_name": config_name, "protocol": protocol, "cache_dir": str(tmp_path), "num_future_actions": 3}
    builder = anticipation_builder(name, data_dir=require_shared("data", *folder.split("/")), **options)
    segments, annotations = builder.annotations.splits[split], builder.annotations
    history_source = annotations.history.get(split, segments)
    some_videos = segments["video_id"].drop_duplicates().sample(3, random_state=0)
    for video_id in some_videos:
        tables = [table[table["video_id"] == video_id] for table in (segments, history_source)]
        rows = make_rows(builder, *tables)
        for _, before in rows.sample(min(5, len(rows)), random_state=0).iterrows():
            changed = [change_after(table, before, len(annotations.label_space.actions)) for table in tables]
            after = make_rows(builder, *changed).set_index("uid").loc[before["uid"]]
            assert max(before["frame_times"]) <= before["observed_end_s"] + 1e-3 < before["start_s"]
            assert after["future_actions"][0] == after["action"]
            assert not np.array_equal(before["future_actions"], after["future_actions"])
            for column in set(rows) - {"uid", "end_s", "action", "verb", "noun", "narration", *FUTURE_COLUMNS}:
                assert np.array_equal(before[column], after[column]), (before["uid"], column)


@pytest.mark.parametrize(
    ("name", "folder", "tests"),
    [("epic_kitchens_55", "ek55", ["test_seen", "test_unseen"]), ("epic_kitchens_100", "ek100", ["test"])],
)
def test_challenge_splits_have_windows_and_no_labels(name, folder, tests, tmp_path):
    data_dir = require_shared("data", "annotations", folder)
    for config_name in ("rulstm", "official"):
        builder = anticipation_builder(name, data_dir=data_dir, cache_dir=str(tmp_path), config_name=config_name)
        assert [split for split in builder.annotations.splits if split.startswith("test")] == tests
        segments = builder.annotations.splits[tests[-1]].head(200)
        rows = make_rows(builder, segments, segments)
        assert set(rows["action"]) == set(rows["verb"]) == set(rows["noun"]) == {-100}
        assert {label for row in rows["past_actions"] for label in row} == {-100}
        assert not any(len(history) for history in rows["history"])


def make_rows(builder, segments, history_segments):
    options = {"video_fps": builder.annotations.video_fps, "history_segments": history_segments}
    return anticipation_rows(segments, builder.config, **options)


def change_after(table, row, num_actions):
    """Returns segments with those changed that begin after a row's window, including the row's own action."""
    changed = table.copy()
    later = changed["start_s"] > row["observed_end_s"]
    own = changed["uid"] == row["uid"]
    changed.loc[later, "action"] = (changed.loc[later, "action"] + 1) % num_actions
    changed.loc[later, "end_s"] += 7.5
    changed.loc[later & ~own, "start_s"] += 0.4
    return changed


def test_edited_annotations_are_never_served_stale(folder):
    write(folder)
    assert len(load(folder)["train"]) == 3
    write(folder, [*SEGMENTS, "b,6,7,cut egg"])
    assert len(load(folder)["train"]) == 4
    (folder / "labels.json").write_text("")
    LabelSpace(("mix egg", "cut oil", "cut egg", "wash")).save(folder / "labels.json")
    assert load(folder)["train"].features["action"].names == ["mix egg", "cut oil", "cut egg", "wash"]


@pytest.mark.parametrize("name", ["builder.py", "own_data.py", "temporal_avt.py"])
def test_edited_code_is_never_served_stale(folder, monkeypatch, name):
    write(folder)
    before = anticipation_builder(str(folder)).hash
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == name))
    assert anticipation_builder(str(folder)).hash != before


def test_splits_and_folds(folder):
    write(
        folder,
        [f"{row},{split},{fold}" for row, split, fold in zip(SEGMENTS, "xxyy", "1122", strict=True)],
        HEADER + ",split,fold",
    )
    assert {name: part["uid"][:] for name, part in load(folder).items()} == {
        "x": ["a_3.000"],
        "y": ["a_8.000", "b_4.000"],
    }
    assert {name: part["uid"][:] for name, part in load(folder, fold="1").items()} == {
        "test": ["a_3.000"],
        "train": ["a_8.000", "b_4.000"],
    }
    with pytest.raises(AnnotationError, match="has no fold '7'"):
        load(folder, fold="7")


def test_verbs_and_nouns(folder):
    header = HEADER + ",verb,noun,uid"
    write(folder, ["a,4,5,cut egg,cut,egg,first", "a,6,7,mix oil,mix,oil,second", "a,8,9,,,,third"], header)
    rows = load(folder)["train"]
    assert rows["uid"][:] == ["first", "second", "third"]
    assert rows["verb"][:] == [0, 1, -100]
    assert rows["action"][:] == [0, 1, -100]
    assert rows[2]["history"] == [0, 1]


def test_videos_are_found_and_give_the_frame_rate(folder):
    (folder / "videos" / "kitchen").mkdir(parents=True)
    for name, count in (("a", 100), ("b", 60)):
        write_video(folder / "videos" / "kitchen" / f"{name}.mp4", numbered_frames(count), fps=10)
    write(folder)
    row = load(folder)["train"][1]
    assert row["video"] == str(folder / "videos" / "kitchen" / "a.mp4")
    assert row["frame_indices"] == [40, 50, 60, 70]
    write(folder, [*SEGMENTS, "b,7.5,8,cut egg"])
    with pytest.raises(AnnotationError, match=r"b\.mp4 lasts 6\.0 s, but is annotated until 8\.0 s"):
        load(folder)
    write(folder, [*SEGMENTS, "c,7.5,8,cut egg"])
    with pytest.raises(AnnotationError, match="lacks 1 annotated videos, 'c' first"):
        load(folder)


@pytest.mark.parametrize("as_pictures", [False, True])
@pytest.mark.parametrize(("annotated", "stored"), [(0, 1), (1, 0)], ids=["nfc", "nfd"])
def test_a_video_with_another_spelling_is_distinguished_from_a_missing_one(folder, as_pictures, annotated, stored):
    (folder / "videos").mkdir()
    if as_pictures:
        write_pictures(folder / "videos" / CAFE[stored], numbered_frames(3))
    else:
        write_video(folder / "videos" / f"{CAFE[stored]}.mp4", numbered_frames(60), fps=10)
    write(folder, [f"{CAFE[annotated]},5,6,cut egg"])
    options = {"video_fps": 0.5} if as_pictures else {}
    with pytest.raises(AnnotationError, match=rf"lacks 1 .*'{CAFE[annotated]}' first, but has one .*NFC and NFD"):
        load(folder, **options)
    write(folder, [f"{CAFE[stored]},5,6,cut egg"])
    assert load(folder, **options)["train"]["video_id"] == [CAFE[stored]]


def test_a_video_much_longer_than_its_annotations_is_reported(folder, caplog):
    (folder / "videos").mkdir()
    for name, count in (("a", 790), ("b", 60)):
        write_video(folder / "videos" / f"{name}.mp4", numbered_frames(count), fps=10)
    write(folder)
    load(folder)
    assert "a.mp4 lasts 79.0 s, but is annotated until 9.0 s only" in caplog.text
    assert "b.mp4" not in caplog.text


def test_rows_survive_parquet(folder):
    write(folder)
    rows = load(folder)["train"]
    rows.to_parquet(folder / "rows.parquet")
    again = datasets.load_dataset("parquet", data_files=str(folder / "rows.parquet"), cache_dir=str(folder))["train"]
    assert again.features == rows.features
    assert again.to_list() == rows.to_list()


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (SEGMENTS, "video,start_s,end_s,action", r"lacks \['video_id'\]: add these"),
        (["a,5,4,cut egg"], HEADER, "ends at 4.0 s, before it starts"),
        (["a,5,x,cut egg"], HEADER, "end_s is 'x'"),
        ([], HEADER, "has no row with an action"),
        (["a,5,6,cut egg,"], HEADER + ",split", "has a split ''"),
        (["a,0.5,2,cut egg", "b,0.2,2,cut egg"], HEADER, "None of the 2 actions can be anticipated with tau_a=1.0"),
        (["a,5,6,cut egg,u", "a,7,8,cut egg,u"], HEADER + ",uid", "uid 'u' is in two rows"),
    ],
)
def test_refuses_annotations_and_leaves_no_cache(folder, rows, header, message):
    write(folder, rows, header)
    with pytest.raises(ValueError, match=message):
        load(folder)
    assert not list((folder.parent / "cache").rglob("*.arrow"))


def test_refuses_folders_that_are_not_data_sets(tmp_path):
    with pytest.raises(ValueError, match="is neither a benchmark"):
        load_anticipation_dataset(str(tmp_path))
    with pytest.raises(AnnotationError, match="is not a folder"):
        load_anticipation_dataset("fifty_salads", data_dir=tmp_path / "missing")
    with pytest.raises(AnnotationError, match=r"mapping\.txt does not exist"):
        load_anticipation_dataset("fifty_salads", data_dir=tmp_path)


def test_a_folder_and_another_data_dir_contradict_each_other(folder, tmp_path):
    write(folder)
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"is the folder '.*', and data_dir is '.*other': give only one"):
        anticipation_builder(str(folder), data_dir=str(tmp_path / "other"))
    for data_dir in (None, str(folder), f"{folder}/../{folder.name}"):
        assert anticipation_builder(str(folder), data_dir=data_dir).annotations.splits


@pytest.mark.parametrize("option", ["config_name", "name"])
def test_a_configuration_that_does_not_exist_is_refused_with_those_that_do(option, tmp_path):
    with pytest.raises(ValueError, match=rf"{option} is 'fold9': give one of \['fold1', .*'fold5'\]"):
        anticipation_builder("fifty_salads", data_dir=tmp_path, **{option: "fold9"})


def test_refuses_rulstm_files_of_another_form(tmp_path):
    (tmp_path / "actions.csv").write_text("0, 0_0, Cut_egg\n1, 1_0, Mix_egg\n")
    for name, content, message in (
        ("training1.csv", "1,a,30,60,0,0\n", r"training1\.csv has 6 columns: RULSTM's files have 7"),
        ("training1.csv", "1,a,30,60,0,0,2\n", "segment '1' has action 2: there are 2 actions"),
        ("training1.csv", "1,a,90,60,0,0,0\n", "segment '1' ends at 2.0 s, before it starts at 3.0 s"),
        ("training1.csv", "1,a,30,60,0,0,0\n", r"validation1\.csv does not exist"),
        (
            "actions.csv",
            "0, 0_0, Cut_egg\n1, 0_1, Mix_oil\n",
            "'Mix_oil' names verb 0 or noun 1 unlike an earlier action",
        ),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(AnnotationError, match=message):
            load_anticipation_dataset("egtea", data_dir=tmp_path, cache_dir=str(tmp_path / "cache"))


EK100 = {
    "actions.csv": "id,verb,noun,action\n0,0,0,cut egg\n",
    "EPIC_100_verb_classes.csv": "id,key\n0,cut\n",
    "EPIC_100_noun_classes.csv": "id,key\n0,egg\n",
    "EPIC_100_video_info.csv": "video_id,fps\na,50\n",
    "training.csv": "0,a,100,200,0,0,0\n",
    "validation.csv": "1,a,300,400,0,0,0\n",
}
SALADS = {
    "segments.csv": "video_id,start_frame,end_frame,action_class\na,1,2,0\nb,1,2,0\n",
    "meta.json": '{"actions": ["cut"], "test_videos_of_fold": {"1": ["a"]}, "frame_rate": "fast"}',
}


@pytest.mark.parametrize(
    ("benchmark", "files", "message"),
    [
        ("egtea", EK100, r"actions\.csv, line 1: a line holds id, verb and noun ids, .* give RULSTM's file for EGTEA"),
        ("egtea", {"actions.csv": "0, 0_0, Cut_egg\n1, 2_0, Mix_egg\n"}, r"actions\.csv has no action with verb 1"),
        ("epic_kitchens_100", {"actions.csv": "id,verb,noun,action\n0,0,,cut egg\n"}, r"line 2: noun is '': give"),
        ("epic_kitchens_100", {"EPIC_100_video_info.csv": "video_id,fps\na,\n"}, r"info\.csv, line 2: fps is ''"),
        ("fifty_salads", {"mapping.txt": "0 cut\n1\n"}, r"mapping\.txt, line 2: a line holds an id and a label"),
        ("fifty_salads", SALADS, r"meta\.json: frame_rate is 'fast': give a finite number, above 0"),
    ],
)
def test_a_field_of_a_benchmark_that_is_no_number_is_named(tmp_path, benchmark, files, message):
    for name, content in {**(EK100 if benchmark.startswith("epic") else {}), **files}.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_anticipation_dataset(benchmark, data_dir=tmp_path, cache_dir=str(tmp_path / "cache"))


def test_official_files_are_refused_where_they_do_not_fit_the_actions(tmp_path):
    space = LabelSpace(("cut egg",), ("cut", "mix"), ("egg",), ((0, 0),))
    header = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class,narration\n"
    path = tmp_path / "official.csv"
    for row, message in (
        ("u,a,00:00:05.00,00:00:06.50,1,0,mix egg", "verb 1 and noun 0 are not an action of actions.csv"),
        ("u,a,5.0,00:00:06.50,0,0,cut egg", r"official\.csv, line 2: The timestamp '5.0' is not of the form hh:mm"),
        ("u,a,00:00:05.00,00:00:06.50,0,,cut egg", r"official\.csv, line 2: noun_class is '': give a number"),
    ):
        path.write_text(header + row + "\n")
        with pytest.raises(AnnotationError, match=message):
            read_official(path, space, uid="narration_id")
    path.write_text(header + "u,a,01:02:05.25,01:02:06.50,0,0,cut it\n")
    assert read_official(path, space, uid="narration_id")["start_s"].tolist() == [3725.25]


def test_a_blank_frame_label_is_refused_and_shifts_nothing(tmp_path):
    for name in ("groundTruth", "splits"):
        (tmp_path / name).mkdir()
    (tmp_path / "mapping.txt").write_text("0 cut\n1 background\n")
    for split in ("train", "test"):
        (tmp_path / "splits" / f"{split}.split1.bundle").write_text(f"{split}.txt\n")
        (tmp_path / "groundTruth" / f"{split}.txt").write_text("background\n\ncut\ncut\n")
    with pytest.raises(AnnotationError, match=r"train\.txt, line 2: '' is not in mapping\.txt"):
        load_anticipation_dataset("fifty_salads", data_dir=tmp_path, cache_dir=str(tmp_path / "cache"))


def test_both_forms_of_fifty_salads_give_the_same_rows(tmp_path):
    official, form = tmp_path / "official", tmp_path / "form"
    for path in (official / "groundTruth", official / "splits", form):
        path.mkdir(parents=True)
    labels = {"rgb-01-1": "sscccccmmm", "rgb-02-1": "bcccbbmmcc"}
    names = {"s": "action_start", "b": "background", "c": "cut", "m": "mix"}
    for video, text in labels.items():
        frames = [names[letter] for letter in text for _ in range(30)]
        (official / "groundTruth" / f"{video}.txt").write_text("\n".join(frames) + "\n")
    (official / "mapping.txt").write_text("0 cut\n1 mix\n2 action_start\n3 action_end\n4 background\n")
    (official / "splits" / "train.split1.bundle").write_text("rgb-01-1.txt\n")
    (official / "splits" / "test.split1.bundle").write_text("rgb-02-1.txt\n")
    (form / "meta.json").write_text(
        json.dumps({"actions": ["cut", "mix"], "frame_rate": 1.0, "test_videos_of_fold": {"1": ["rgb-02-1"]}})
    )
    (form / "segments.csv").write_text(
        "video_id,start_frame,end_frame,action_class,action\nrgb-01-1,2,7,0,cut\nrgb-01-1,7,10,1,mix\n"
        "rgb-02-1,1,4,0,cut\nrgb-02-1,6,8,1,mix\nrgb-02-1,8,10,0,cut\n"
    )
    for split, count in (("train", 2), ("test", 3)):
        ours, theirs = (
            load_anticipation_dataset("fifty_salads", data_dir=path, cache_dir=str(tmp_path / "cache"))[
                split
            ].to_pandas()
            for path in (official, form)
        )
        assert len(ours) == count
        for name in ("video_id", "start_s", "end_s", "action"):
            assert ours[name].tolist() == theirs[name].tolist()
        for name in ("past_actions", "history", "frame_times"):
            assert [list(x) for x in ours[name]] == [list(x) for x in theirs[name]]


@pytest.mark.parametrize("written", ["1", "1.0", " 1"])
@pytest.mark.parametrize("asked", [1, "1", 1.0, "1.0"])
def test_a_fold_is_the_same_however_its_number_is_written(folder, written, asked):
    rows = [f"{row},{written if row.startswith('a') else 2}" for row in ("a,5,6,cut", "a,7,8,mix", "b,5,6,cut")]
    write(folder, rows, "video_id,start_s,end_s,action,fold")
    splits = load(folder, fold=asked)
    assert set(splits["test"]["video_id"]) == {"a"}
    assert set(splits["train"]["video_id"]) == {"b"}


def test_folds_of_a_data_set_are_named(folder):
    rows = ["a,5,6,cut,1.0", "b,5,6,cut,2.0", "c,5,6,cut,odd"]
    write(folder, rows, "video_id,start_s,end_s,action,fold")
    expected = {"fold1": {"fold": "1"}, "fold2": {"fold": "2"}, "foldodd": {"fold": "odd"}}
    assert anticipation_builder(str(folder)).folds() == expected
    write(folder, ["a,5,6,cut"], "video_id,start_s,end_s,action")
    assert anticipation_builder(str(folder)).folds() == {}


def test_a_fold_that_is_not_there_is_refused_with_those_that_are(folder):
    write(folder, ["a,5,6,cut,1", "b,5,6,cut,2"], "video_id,start_s,end_s,action,fold")
    with pytest.raises(ValueError, match=r"has no fold '3' in its column 'fold', but \['1', '2'\]"):
        load(folder, fold=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 10**9}, "num_frames is 1000000000: give a whole number from 1 to 65536"),
        ({"num_frames": 4.0}, "num_frames is 4.0"),
        ({"frame_rate": float("inf")}, "frame_rate is inf"),
        ({"tau_o": 0}, "tau_o is 0: give a finite number of seconds, above 0"),
        ({"tau_a": -1.0}, "tau_a is -1.0: give a finite number of seconds, 0 or more"),  # it would include the action
        ({"tau_a": "1"}, "tau_a is '1'"),
    ],
)
def test_times_out_of_range_are_refused(folder, options, message):
    write(folder)
    with pytest.raises(ValueError, match=message):
        load(folder, **options)
    with pytest.raises(ValueError, match=message):
        RowOptions(**options)


def test_numpy_times_are_the_same_data_set(folder):
    write(folder)
    cache = str(folder.parent / "cache")
    expected = anticipation_builder(str(folder), cache_dir=cache, tau_o=4.0, num_frames=4)
    builder = anticipation_builder(str(folder), cache_dir=cache, tau_o=np.float64(4), num_frames=np.int64(4))
    assert builder.cache_dir == expected.cache_dir


CAFE = "saut\u00e9", "saute\u0301"  # NFC and NFD


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ["a,5,6,cut egg,cut", "a,7,8,cut egg,chop"],
            "verb",
            "line 3: the action 'cut egg' has the verb 'chop', but in",
        ),
        (["a,5,6,cut egg,egg", "a,7,8,cut egg,jug"], "noun", "line 3: the action 'cut egg' has the noun 'jug', but in"),
        ([f"a,5,6,{CAFE[0]},x", f"a,7,8,{CAFE[1]},x"], "split", "line 3: the action .* in line 2.*NFC and NFD"),
        ([f"{CAFE[1]},5,6,cut,x", f"{CAFE[0]},7,8,cut,x"], "split", "line 3: the video_id .* in line 2"),
        ([",5,6,cut,x"], "split", "line 2: segment 1 has no video_id"),
        (["a,5,6,cut,u", "a,7,8,cut,"], "uid", "line 3: segment 2 has no uid"),
        (["a,5,6,cut,x", "a,7,8,cut"], "split", "line 3 has 4 fields"),
        (["a,5,6,cut,x", "a,7,8,cut,x,"], "split", "line 3 has 6 fields"),
    ],
)
def test_own_data_that_contradicts_itself_is_refused_with_its_line(folder, rows, header, message):
    write(folder, rows, f"{HEADER},{header}")
    with pytest.raises(AnnotationError, match=message):
        load(folder)


@pytest.mark.parametrize("rows", [["a,5,6,", "a,7,8,"], []])
def test_own_data_without_an_action_is_refused_with_its_file(folder, rows):
    write(folder, rows)
    with pytest.raises(AnnotationError, match=r"segments\.csv has no row with an action: name the action of each"):
        load(folder)
    LabelSpace(("cut egg",)).save(folder / "labels.json")
    write(folder, ["a,5,6,"])
    assert load(folder)["train"]["action"] == [-100]


def test_verbs_that_are_others_in_labels_json_are_refused(folder):
    LabelSpace(("cut egg",), ("cut", "chop"), ("egg",), ((0, 0),)).save(folder / "labels.json")
    write(folder, ["a,5,6,cut egg,chop"], f"{HEADER},verb")
    with pytest.raises(AnnotationError, match=r"the action 'cut egg' has the verb 'chop', but 'cut' in labels\.json"):
        load(folder)
    write(folder, ["a,5,6,cut,chop"], f"{HEADER},verb")
    with pytest.raises(AnnotationError, match=r"line 2: 'cut' is not in labels\.json"):
        load(folder)


def test_a_verb_that_is_missing_in_one_row_is_reported(folder, caplog):
    write(folder, ["a,5,6,cut egg,,egg", "a,7,8,cut egg,cut,egg"], f"{HEADER},verb,noun")
    builder = anticipation_builder(str(folder), cache_dir=str(folder))
    assert builder.annotations.label_space.action_to_verb_noun == ((0, 0),)
    assert "1 segments lack the verb that their action has elsewhere" in caplog.text


@pytest.mark.parametrize(("column", "options"), [("split", {}), ("fold", {"fold": 1})])
def test_splits_that_cut_through_videos_are_reported_with_their_number(folder, caplog, column, options):
    write(folder, ["a,5,6,cut,1", "a,7,8,cut,2", "b,5,6,cut,2", "c,5,6,cut,1"], f"{HEADER},{column}")
    load(folder, **options)
    assert "1 of 3 videos have segments in several of the splits" in caplog.text
    caplog.clear()
    write(folder, ["a,5,6,cut,1", "a,7,8,cut,1", "b,5,6,cut,2"], f"{HEADER},{column}")
    load(folder, **options)
    assert "several of the splits" not in caplog.text


@pytest.mark.parametrize("fold", ["", " "])
def test_a_blank_fold_is_none(folder, fold, caplog):
    write(folder, ["a,5,6,cut,1", "b,5,6,cut,"], f"{HEADER},fold")
    with pytest.raises(AnnotationError, match=r"has no fold '' in its column 'fold', but \['1'\]"):
        load(folder, fold=fold)
    assert set(load(folder, fold="1")["train"]["video_id"]) == {"b"}
    assert "1 segments have no fold" in caplog.text
    write(folder, ["a,5,6,cut"])
    with pytest.raises(AnnotationError, match="has no column 'fold'"):
        load(folder, fold=1)


LATE = ["a,2,4,cut egg", "a,5,5.9,mix egg", "a,5.5,8,cut oil", "a,7,9,mix egg", "b,2,6.5,cut egg"]


@pytest.mark.parametrize(
    ("past_end", "ends", "history", "count"),
    [
        (
            "clip",
            {"a_2.000": 4.0, "a_5.000": 5.9, "a_5.500": 6.0, "b_2.000": 6.5},
            [0, 2],
            "2 segments end after their video, 'a_5.500'",
        ),
        (
            "skip",
            {"a_2.000": 4.0, "a_5.000": 5.9, "b_2.000": 6.5},
            [0],
            "2 segments end after their video, 'a_5.500' first, and are left",
        ),
    ],
)
def test_segments_that_end_after_their_video(folder, caplog, capsys, past_end, ends, history, count):
    (folder / "videos").mkdir()
    for name in "ab":
        write_video(folder / "videos" / f"{name}.mp4", numbered_frames(60), fps=10)
    write(folder, LATE)
    with pytest.raises(
        AnnotationError, match=r"a\.mp4 lasts 6\.0 s, .* 9\.0 s.*2 segments end after it, 'a_5.500' first"
    ):
        load(folder)
    rows = load(folder, past_end=past_end)["train"]
    assert list(rows["end_s"]) == list(ends.values())
    assert count in caplog.text
    builder = anticipation_builder(str(folder), past_end=past_end, cache_dir=str(folder))
    assert len(builder.annotations.splits["train"]) == len(ends)
    assert builder.late == {"train": list(builder.late["train"])}
    assert len(builder.late["train"]) == 2
    with pytest.raises(AnnotationError, match="past_end is 'cut': give one of"):
        load(folder, past_end="cut")


@pytest.mark.parametrize("past_end", ["clip", "skip"])
def test_windows_that_end_after_their_video_have_no_rows(folder, past_end):
    """Of a segment less than a second too late, only the window shows that it cannot be read; training would stop."""
    (folder / "videos").mkdir()
    write_video(folder / "videos" / "a.mp4", numbered_frames(60), fps=10)
    write(folder, ["a,2,3,cut egg", "a,6.5,6.8,mix egg", "a,6.6,6.9,cut oil"])
    with pytest.raises(AnnotationError, match=r"a\.mp4 lasts 6\.0 s, .*\(1 segments end after it, 'a_6\.600'"):
        load(folder, tau_a=0.5)
    rows = load(folder, tau_a=0.5, past_end=past_end)["train"]
    assert list(rows["observed_end_s"]) == [1.5, 6.0]
    VideoCollator(AVTVideoProcessor(num_frames=4, tau_o=4.0))(list(rows))
    assert len(load(folder, tau_a=0.6)["train"]) == 3


def test_a_video_that_was_encoded_anew_at_another_rate_is_never_served_stale(folder):
    (folder / "videos").mkdir()
    write(folder, ["a,3,4,cut egg"])
    for fps, indices in ((10, [-10, 0, 10, 20]), (5, [-5, 0, 5, 10])):
        write_video(folder / "videos" / "a.mp4", numbered_frames(6 * fps), fps=fps)
        row = load(folder)["train"][0]
        assert row["frame_indices"][1:] == indices[1:]


SHARED_START = ["a,3,6,mix egg", "a,3,6,mix egg", "a,3,5,cut oil", "a,8,9,cut oil", "b,4,5,mix egg"]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 1, 3]])
def test_uids_depend_on_the_content_of_rows_and_not_on_their_order(folder, order):
    def named(lines):
        write(folder, lines)
        rows = load(folder)["train"]
        return sorted(zip(rows["uid"], rows["start_s"], rows["end_s"], rows["action"], strict=True))

    expected = named(SHARED_START)
    assert len({uid for uid, *_ in expected}) == 5
    assert named([SHARED_START[row] for row in order]) == expected
    without_a_row = [SHARED_START[row] for row in order if row != 4]
    assert named(without_a_row) == [row for row in expected if not row[0].startswith("b")]
    assert {"a_8.000", "b_4.000"} < {uid for uid, *_ in expected}


def test_uids_that_are_given_are_kept(folder):
    write(folder, [f"{row},{number}" for number, row in enumerate(SEGMENTS)], HEADER + ",uid")
    assert load(folder)["train"]["uid"][:] == ["1", "2", "3"]
