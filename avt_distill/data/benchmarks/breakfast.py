"""Breakfast Actions (48 classes, 15 frames a second), four splits by person."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...runs.names import file_name
from ...runs.texts import read_user_text
from ..builder import Annotations, AnticipationBuilder, AnticipationConfig
from ..labels import LabelSpace
from ..segments import (
    AnnotationError,
    first_existing,
    frame_seconds,
    label_runs,
    read_csv,
    segment_table,
    train_and_test,
)

FPS = 15.0
BACKGROUND = "SIL"
BACKGROUND_OPTIONS = ("exclude", "include")
# fmt: off
ACTIONS = (
    "SIL", "add_saltnpepper", "add_teabag", "butter_pan", "crack_egg", "cut_bun", "cut_fruit", "cut_orange", "fry_egg",
    "fry_pancake", "peel_fruit", "pour_cereals", "pour_coffee", "pour_dough2pan", "pour_egg2pan", "pour_flour",
    "pour_juice", "pour_milk", "pour_oil", "pour_sugar", "pour_water", "put_bunTogether", "put_egg2plate",
    "put_fruit2bowl", "put_pancake2plate", "put_toppingOnTop", "smear_butter", "spoon_flour", "spoon_powder",
    "spoon_sugar", "squeeze_orange", "stir_cereals", "stir_coffee", "stir_dough", "stir_egg", "stir_fruit", "stir_milk",
    "stir_tea", "stirfry_egg", "take_bowl", "take_butter", "take_cup", "take_eggs", "take_glass", "take_knife",
    "take_plate", "take_squeezer", "take_topping",
)
# fmt: on
# The persons whose videos a split tests on, first and last.
TEST_PERSONS = {"split1": (3, 15), "split2": (16, 28), "split3": (29, 41), "split4": (42, 54)}
VIDEO_ID = re.compile(r"P(\d\d)_[a-z]+\d+_P\1_[a-z]+")  # person, camera, person, activity


@dataclass
class BreakfastConfig(AnticipationConfig):
    """Options of Breakfast, in addition to those of `AnticipationConfig`.

    Args:
        background (`str`, *optional*, defaults to `"exclude"`): `"exclude"`: `SIL` is not anticipated, and does not
            appear in past actions, histories and futures. `"include"`: it is treated like any action.
    """

    background: str = "exclude"


class Breakfast(AnticipationBuilder):
    """Breakfast Actions. `data_dir` holds one of two forms; the first is read if both exist.

    Segments: `segments.csv` or `segments.csv.gz` (`video_id, start_frame, end_frame, action`, end not included).
    Official frame labels: `groundTruth/<video>.txt`, a label for each frame, as in the download of MS-TCN and FUTR
    (https://zenodo.org/records/3625992). Both count frames at 15 a second.

    Splits: `train` and `test`. Configurations: `split1` (default) to `split4`, which test on persons P03-P15, P16-P28,
    P29-P41 and P42-P54; these are the splits of the `.bundle` files, which are not read. Up to five cameras recorded
    each performance; they show one person, so they are in one split.

    `SIL` is background and class 0 of 48. It is not anticipated and does not appear in past actions, histories or
    futures unless `background` is `"include"`; `dense_segments` always includes it, as dense anticipation requires.
    """

    TITLE = "Breakfast"
    config: BreakfastConfig
    BUILDER_CONFIG_CLASS = BreakfastConfig
    BUILDER_CONFIGS = [BreakfastConfig(name=split) for split in TEST_PERSONS]
    DEFAULT_CONFIG_NAME = "split1"
    ANNOTATION_FILES = ("segments.csv", "segments.csv.gz", "groundTruth/*.txt")

    def __init__(self, *args, **kwargs):
        if (background := kwargs.get("background", "exclude")) not in BACKGROUND_OPTIONS:
            raise AnnotationError(f"background is '{background}': give one of {BACKGROUND_OPTIONS}.")
        super().__init__(*args, **kwargs)

    def read_annotations(self, folder: Path) -> Annotations:
        space = LabelSpace(ACTIONS)
        source = first_existing(folder, "segments.csv", "segments.csv.gz")
        if source is not None:
            table = read_csv(source, "video_id", "start_frame", "end_frame", "action")
        else:
            source = folder / "groundTruth"
            table = pd.DataFrame(_frame_labels(source), columns=["video_id", "start_frame", "end_frame", "action"])
        segments = segment_table(
            source,
            space,
            uid=table["video_id"] + "_" + table["start_frame"].astype(str),
            video_id=table["video_id"],
            start_s=frame_seconds(table["start_frame"], FPS),
            end_s=frame_seconds(table["end_frame"], FPS),
            action=_ids(source, table["action"]),
        )
        first, last = TEST_PERSONS[self.config.name]
        test_videos = [video for video in segments["video_id"].unique() if first <= _person(source, video) <= last]
        dense = train_and_test(f"{source}: {self.config.name}", segments, test_videos)
        if self.config.background == "include":
            return Annotations(space, dense, dict.fromkeys(segments["video_id"], FPS))
        actions = {name: table.loc[table["action"] != ACTIONS.index(BACKGROUND)] for name, table in dense.items()}
        splits = {name: table.reset_index(drop=True) for name, table in actions.items()}
        return Annotations(space, splits, dict.fromkeys(segments["video_id"], FPS), dense=dense)


def _person(source: Path, video_id: str) -> int:
    """Returns the number of a video's person.

    Raises:
        AnnotationError: If the name does not contain the person, or the person is in no split.
    """
    match = VIDEO_ID.fullmatch(video_id)
    if match is None or not 3 <= int(match[1]) <= 54:
        raise AnnotationError(
            f"{source}: the video '{video_id}' is not named by person, camera, person and activity, such as "
            "'P03_cam01_P03_cereals', with persons P03 to P54: rename it, otherwise its split is not known."
        )
    return int(match[1])


def _frame_labels(folder: Path) -> Iterator[tuple[str, int, int, str]]:
    """Yields the segments of the official frame labels, all videos in order of their names."""
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise AnnotationError(
            f"{folder.parent} has neither segments.csv, segments.csv.gz nor groundTruth/*.txt: give the folder of "
            "Breakfast's annotations."
        )
    for path in paths:
        # Only trailing blank lines are dropped: dropping one between frame labels would shift all later frames.
        lines = [line.strip() for line in read_user_text(path).rstrip().splitlines()]
        for label, first, end in label_runs(lines):
            if label not in ACTIONS:
                raise AnnotationError(f"{path}, line {first + 1}: '{label}' is not an action of Breakfast: correct it.")
            yield file_name(path.stem), first, end, label


def _ids(source: Path, actions: pd.Series) -> list[int]:
    known = {name: index for index, name in enumerate(ACTIONS)}
    for line, name in actions.items():
        if name not in known:
            raise AnnotationError(f"{source}, line {line}: '{name}' is not an action of Breakfast: correct it.")
    return [known[name] for name in actions]
