"""The official files of EPIC-Kitchens' challenge splits, which have times and no labels."""

import pytest

from avt_distill.data import anticipation_builder
from avt_distill.data.segments import AnnotationError

ROWS = "P01_101,00:00:02.86,00:00:03.87,143,193\nP01_101,00:01:05.25,00:01:06.00,3262,3300\n"
TIMES = "video_id,start_timestamp,stop_timestamp,start_frame,stop_frame"


def official(uid: str, *names: str) -> str:
    rows = (f"{name},P01,{row}" for name, row in zip(names, ROWS.splitlines(), strict=True))
    return "\n".join([f"{uid},participant_id,{TIMES}", *rows]) + "\n"


def write_labelled(folder, info: str, verbs: str, nouns: str, key: str):
    (folder / "actions.csv").write_text("id,verb,noun,action\n0,0,0,cut egg\n", encoding="utf-8")
    (folder / info).write_text("video_id,video,fps\nP01_101,P01_101,50\nP01_01,P01_01,50\n", encoding="utf-8")
    (folder / verbs).write_text(f"id,{key}\n0,cut\n", encoding="utf-8")
    (folder / nouns).write_text(f"id,{key}\n0,egg\n", encoding="utf-8")


def write_labels(path, uid: str):
    header = f"{uid},video_id,start_timestamp,stop_timestamp,verb_class,noun_class,narration\n"
    path.write_text(header + "u1,P01_01,00:00:05.00,00:00:06.50,0,0,cut egg\n", encoding="utf-8")


def test_the_test_split_of_epic_kitchens_100_is_read_from_its_official_file(tmp_path):
    write_labelled(tmp_path, "EPIC_100_video_info.csv", "EPIC_100_verb_classes.csv", "EPIC_100_noun_classes.csv", "key")
    write_labels(tmp_path / "EPIC_100_train.csv", "narration_id")
    (tmp_path / "EPIC_100_test_timestamps.csv").write_text(
        official("narration_id", "P01_101_0", "P01_101_1"), encoding="utf-8"
    )
    options = {"data_dir": tmp_path, "config_name": "official", "cache_dir": str(tmp_path), "num_future_actions": 2}
    builder = anticipation_builder("epic_kitchens_100", **options)
    assert list(builder.annotations.splits) == ["train", "test"]
    rows = builder.rows("test")
    assert rows["uid"].tolist() == ["P01_101_0", "P01_101_1"]
    assert rows["start_s"].tolist() == [2.86, 65.25]
    assert set(rows["action"]) == set(rows["verb"]) == set(rows["noun"]) == {-100}
    assert rows["future_start_s"].iloc[0].tolist() == [2.86, 65.25]
    assert rows["future_actions"].iloc[0].tolist() == [-100, -100]
    (tmp_path / "EPIC_100_test_timestamps.csv").write_text("narration_id,video_id\nu,P01_101\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"lacks \['start_timestamp', 'stop_timestamp'\]"):
        anticipation_builder("epic_kitchens_100", **options).rows("test")


def test_the_test_splits_of_epic_kitchens_55_are_read_from_their_official_files(tmp_path):
    write_labelled(tmp_path, "EPIC_video_info.csv", "EPIC_verb_classes.csv", "EPIC_noun_classes.csv", "class_key")
    write_labels(tmp_path / "EPIC_train_action_labels.csv", "uid")
    (tmp_path / "training_videos.csv").write_text("P01_01\n", encoding="utf-8")
    (tmp_path / "validation_videos.csv").write_text("P01_01\n", encoding="utf-8")
    for number in (1, 2):
        content = official("uid", f"{number}0", f"{number}1")
        (tmp_path / f"EPIC_test_s{number}_timestamps.csv").write_text(content, encoding="utf-8")
    options = {"data_dir": tmp_path, "config_name": "official", "cache_dir": str(tmp_path)}
    builder = anticipation_builder("epic_kitchens_55", **options)
    assert list(builder.annotations.splits) == ["train", "validation", "test_seen", "test_unseen"]
    assert builder.rows("test_seen")["uid"].tolist() == ["10", "11"]
    assert builder.rows("test_unseen")["uid"].tolist() == ["20", "21"]
