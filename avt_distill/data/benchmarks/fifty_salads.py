"""50 Salads (mid granularity, 17 actions), five folds by user."""

from pathlib import Path

import pandas as pd

from ...runs.names import file_name
from ...runs.options import POSITIVE
from ...runs.texts import read_user_json, read_user_text
from ..builder import Annotations, AnticipationBuilder, AnticipationConfig
from ..labels import LabelSpace
from ..segments import AnnotationError, frame_seconds, label_runs, read_csv, segment_table, train_and_test

# Labels in the official files that are not actions.
BACKGROUND = ("background", "action_start", "action_end")
OFFICIAL_FPS = 30.0


class FiftySalads(AnticipationBuilder):
    """50 Salads. `data_dir` holds one of two forms, which are distinguished by their files.

    Official frame labels: `groundTruth/<video>.txt`, a label for each frame at 30 fps, `mapping.txt` (`id label`) and
    `splits/train.split<k>.bundle`, `splits/test.split<k>.bundle`. Segments: `segments.csv` (`video_id, start_frame,
    end_frame, action_class`, end not included) and `meta.json` (`test_videos_of_fold`, `actions`, `frame_rate`).

    Splits: `train` and `test`. Configurations: `fold1` (default) to `fold5`.
    """

    TITLE = "50 Salads"
    BUILDER_CONFIGS = [AnticipationConfig(name=f"fold{fold}") for fold in range(1, 6)]
    DEFAULT_CONFIG_NAME = "fold1"
    ANNOTATION_FILES = ("segments.csv", "meta.json", "mapping.txt", "groundTruth/*.txt", "splits/*.bundle")

    def read_annotations(self, folder: Path) -> Annotations:
        fold = self.config.name.removeprefix("fold")
        source = folder / "segments.csv"
        if source.exists():
            space, table, test_videos, fps = _read_segment_form(folder, fold)
        else:
            source = folder / "groundTruth"
            space, table, test_videos, fps = _read_frame_labels(folder, fold)
        segments = segment_table(
            source,
            space,
            uid=table["video_id"] + "_" + table["start_frame"].astype(str),
            video_id=table["video_id"],
            start_s=frame_seconds(table["start_frame"], fps),
            end_s=frame_seconds(table["end_frame"], fps),
            action=table["action_class"],
        )
        splits = train_and_test(f"{folder}: fold {fold}", segments, test_videos)
        return Annotations(space, splits, dict.fromkeys(segments["video_id"], fps))


def _read_segment_form(folder: Path, fold: str) -> tuple[LabelSpace, pd.DataFrame, list[str], float]:
    """Returns the labels, the segments in frames, a fold's test videos, and frames per second."""
    meta = read_user_json(folder / "meta.json")
    wanted = ("actions", "test_videos_of_fold", "frame_rate")
    if not isinstance(meta, dict) or not set(wanted) <= set(meta) or fold not in meta["test_videos_of_fold"]:
        raise AnnotationError(f"{folder / 'meta.json'} has not {', '.join(wanted)} with fold {fold}: add them.")
    table = read_csv(folder / "segments.csv", "video_id", "start_frame", "end_frame", "action_class")
    fps = float(POSITIVE(f"{folder / 'meta.json'}: frame_rate", meta["frame_rate"]))
    return LabelSpace(meta["actions"]), table, meta["test_videos_of_fold"][fold], fps


def _read_frame_labels(folder: Path, fold: str) -> tuple[LabelSpace, pd.DataFrame, list[str], float]:
    """Returns the same as `_read_segment_form`, read from the official files."""
    mapping = folder / "mapping.txt"
    words = [line.split() for line in _lines(mapping)]
    if wrong := [number for number, line in enumerate(words, start=1) if len(line) < 2]:
        advice = "a line holds an id and a label: give the file as published"
        raise AnnotationError(f"{mapping}, line {wrong[0]}: {advice}.")
    names = [label for _, label, *_ in words]
    space = LabelSpace(tuple(name for name in names if name not in BACKGROUND))
    action_of = {name: action for action, name in enumerate(space.actions)}
    bundles = {split: folder / "splits" / f"{split}.split{fold}.bundle" for split in ("train", "test")}
    videos = {split: [file_name(Path(line).stem) for line in _lines(path)] for split, path in bundles.items()}
    rows = []
    for video_id in [*videos["train"], *videos["test"]]:
        for label, first, end in label_runs(_lines(folder / "groundTruth" / f"{video_id}.txt")):
            if label in action_of:
                rows.append((video_id, first, end, action_of[label]))
            elif label not in BACKGROUND:
                raise AnnotationError(f"{video_id}.txt, line {first + 1}: '{label}' is not in mapping.txt: correct it.")
    table = pd.DataFrame(rows, columns=["video_id", "start_frame", "end_frame", "action_class"])
    return space, table, videos["test"], OFFICIAL_FPS


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise AnnotationError(
            f"{path} does not exist: give the folder with segments.csv, or with groundTruth, mapping.txt and splits."
        )
    # Only trailing blank lines are dropped: dropping one between frame labels would shift all later frames.
    return [line.strip() for line in read_user_text(path).rstrip().splitlines()]
