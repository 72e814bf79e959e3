"""EPIC-Kitchens-55 and -100, from RULSTM's CSV files, whose splits are used in published results, or official ones.

RULSTM's files have no header: `uid, video_id, start_frame, stop_frame` and, if labeled, `verb, noun, action`. Frames
are numbered at 30 fps regardless of the video's rate, so times differ from the official ones by up to 1/30 s.
"""

from pathlib import Path

import pandas as pd

from ..builder import Annotations, AnticipationBuilder, AnticipationConfig
from ..labels import UNLABELLED, LabelSpace
from ..segments import AnnotationError, column_numbers, frame_seconds, read_csv, segment_table

RULSTM_FPS = 30.0
CONFIGS = [AnticipationConfig(name="rulstm"), AnticipationConfig(name="official")]


class EpicKitchens55(AnticipationBuilder):
    """EPIC-Kitchens-55. `data_dir` holds the CSV files of RULSTM and of the official annotations.

    Splits: `train`, `validation` (RULSTM's division of the labeled videos) and, if their files exist, the challenge's
    unlabeled `test_seen` and `test_unseen`. Configurations: `rulstm` (default) and `official`, which reads times,
    uids and narrations of the labeled splits from `EPIC_train_action_labels.csv`, and the test splits from
    `EPIC_test_s1_timestamps.csv` and `EPIC_test_s2_timestamps.csv` if these exist.
    """

    TITLE = "EPIC-Kitchens-55"
    BUILDER_CONFIGS = CONFIGS
    DEFAULT_CONFIG_NAME = "rulstm"
    HEAD_NOUN_FIRST = True

    def read_annotations(self, folder: Path) -> Annotations:
        space = _label_space(folder, "EPIC_verb_classes.csv", "EPIC_noun_classes.csv", key="class_key")
        if self.config.name == "official":
            labelled = read_official(folder / "EPIC_train_action_labels.csv", space, uid="uid")
            splits = {}
            for split, name in (("train", "training_videos.csv"), ("validation", "validation_videos.csv")):
                videos = set(read_csv(folder / name, header=None)[0])
                splits[split] = labelled[labelled["video_id"].isin(videos)].reset_index(drop=True)
        else:
            files = {"train": "training.csv", "validation": "validation.csv"}
            splits = {split: read_rulstm(folder / name, space) for split, name in files.items()}
        of_challenge = {"test_seen": "EPIC_test_s1_timestamps.csv", "test_unseen": "EPIC_test_s2_timestamps.csv"}
        for split, official in of_challenge.items():
            if self.config.name == "official" and (folder / official).exists():
                splits[split] = read_timestamps(folder / official, space, uid="uid")
            elif (folder / f"{split}.csv").exists():
                splits[split] = read_rulstm(folder / f"{split}.csv", space)
        return Annotations(
            space, splits, _video_fps(folder / "EPIC_video_info.csv", "video"), many_shot=_many_shot(folder)
        )


class EpicKitchens100(AnticipationBuilder):
    """EPIC-Kitchens-100. `data_dir` holds the CSV files of RULSTM and of the official annotations.

    Splits: `train`, `validation` and, if its file exists, the challenge's unlabeled `test`. Configurations: `rulstm`
    (default) and `official`, which reads those of `EPIC_100_train.csv` and `EPIC_100_validation.csv` (with
    narrations) and `EPIC_100_test_timestamps.csv` that exist.
    """

    TITLE = "EPIC-Kitchens-100"
    BUILDER_CONFIGS = CONFIGS
    DEFAULT_CONFIG_NAME = "rulstm"
    HEAD_NOUN_FIRST = True

    def read_annotations(self, folder: Path) -> Annotations:
        space = _label_space(folder, "EPIC_100_verb_classes.csv", "EPIC_100_noun_classes.csv", key="key")
        if self.config.name == "official":
            names = {"train": "EPIC_100_train.csv", "validation": "EPIC_100_validation.csv"}
            files = {split: folder / name for split, name in names.items() if (folder / name).exists()}
            if not files:
                raise AnnotationError(
                    f"{folder} has none of {sorted(names.values())}: add one, or use configuration 'rulstm'."
                )
            splits = {split: read_official(path, space, uid="narration_id") for split, path in files.items()}
        else:
            files = {"train": "training.csv", "validation": "validation.csv"}
            splits = {split: read_rulstm(folder / name, space) for split, name in files.items()}
        if self.config.name == "official" and (folder / "EPIC_100_test_timestamps.csv").exists():
            splits["test"] = read_timestamps(folder / "EPIC_100_test_timestamps.csv", space, uid="narration_id")
        elif (folder / "test_timestamps.csv").exists():
            splits["test"] = read_rulstm(folder / "test_timestamps.csv", space)
        return Annotations(space, splits, _video_fps(folder / "EPIC_100_video_info.csv", "video_id"))


def read_rulstm(path: Path, space: LabelSpace) -> pd.DataFrame:
    """Returns the segment table of one of RULSTM's files; labels are -100 if the file has none.

    Raises:
        AnnotationError: If the number of columns is wrong, or `segment_table` refuses the annotations.
    """
    table = read_csv(path, header=None)
    if table.shape[1] not in (4, 7):
        raise AnnotationError(
            f"{path} has {table.shape[1]} columns: RULSTM's files have 7 (uid, video, start, stop frame, verb, noun, "
            "action), or the first 4 without labels."
        )
    table = table.reindex(columns=range(7), fill_value=UNLABELLED)
    return segment_table(
        path,
        space,
        uid=table[0],
        video_id=table[1],
        start_s=frame_seconds(table[2], RULSTM_FPS),
        end_s=frame_seconds(table[3], RULSTM_FPS),
        verb=table[4],
        noun=table[5],
        action=table[6],
    )


def read_official(path: Path, space: LabelSpace, uid: str) -> pd.DataFrame:
    """Returns the segment table of an official label file; the action is the pair of verb and noun.

    Args:
        path (`Path`): The CSV file.
        space (`LabelSpace`): The labels, with an action for each pair in the file.
        uid (`str`): The column that names a segment.
    """
    columns = ("video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class", "narration")
    table = read_csv(path, uid, *columns)
    action_of = {pair: action for action, pair in enumerate(space.action_to_verb_noun)}
    pairs = list(zip(*(column_numbers(path, table, name) for name in ("verb_class", "noun_class")), strict=True))
    unknown = [pair for pair in pairs if pair not in action_of]
    if unknown:
        raise AnnotationError(
            f"{path}: verb {unknown[0][0]} and noun {unknown[0][1]} are not an action of actions.csv: give files of "
            "one version."
        )
    return segment_table(
        path,
        space,
        uid=table[uid],
        video_id=table["video_id"],
        start_s=_seconds_of(path, table["start_timestamp"]),
        end_s=_seconds_of(path, table["stop_timestamp"]),
        verb=table["verb_class"],
        noun=table["noun_class"],
        action=[action_of[pair] for pair in pairs],
        narration=table["narration"],
    )


def read_timestamps(path: Path, space: LabelSpace, uid: str) -> pd.DataFrame:
    """Returns the segment table of a challenge's official test file, which has times but no labels.

    Args:
        path (`Path`): The file.
        space (`LabelSpace`): The labels of the other splits.
        uid (`str`): The column that names a segment.
    """
    table = read_csv(path, uid, "video_id", "start_timestamp", "stop_timestamp")
    return segment_table(
        path,
        space,
        uid=table[uid],
        video_id=table["video_id"],
        start_s=_seconds_of(path, table["start_timestamp"]),
        end_s=_seconds_of(path, table["stop_timestamp"]),
        action=pd.Series(UNLABELLED, index=table.index),
    )


def seconds(timestamp: str) -> float:
    """Returns a timestamp such as `"01:02:03.45"` in seconds."""
    try:
        hours, minutes, rest = timestamp.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(rest)
    except ValueError as error:
        raise AnnotationError(f"The timestamp '{timestamp}' is not of the form hh:mm:ss.ss: correct it.") from error


def _seconds_of(path: Path, timestamps: pd.Series) -> pd.Series:
    for line, timestamp in timestamps.items():
        try:
            seconds(timestamp)
        except AnnotationError as error:
            raise AnnotationError(f"{path}, line {line}: {error}") from error
    return timestamps.map(seconds)


def _label_space(folder: Path, verbs: str, nouns: str, key: str) -> LabelSpace:
    actions = read_csv(folder / "actions.csv", "action", "verb", "noun")
    ids = [column_numbers(folder / "actions.csv", actions, name) for name in ("verb", "noun")]
    return LabelSpace(
        actions=tuple(actions["action"]),
        verbs=tuple(read_csv(folder / verbs, key)[key]),
        nouns=tuple(read_csv(folder / nouns, key)[key]),
        action_to_verb_noun=tuple(zip(*ids, strict=True)),
    )


def _many_shot(folder: Path) -> dict[str, list[int]] | None:
    paths = {kind: folder / f"EPIC_many_shot_{kind}s.csv" for kind in ("verb", "noun")}
    if not all(path.exists() for path in paths.values()):
        return None
    tables = {kind: read_csv(path, f"{kind}_class") for kind, path in paths.items()}
    return {kind: column_numbers(paths[kind], table, f"{kind}_class") for kind, table in tables.items()}


def _video_fps(path: Path, key: str) -> dict[str, float]:
    info = read_csv(path, key, "fps")
    return dict(zip(info[key], column_numbers(path, info, "fps", whole=False), strict=True))
