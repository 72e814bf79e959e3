"""EPIC-Tent (12 steps of pitching a tent), from per-frame outputs of an online recognizer with the true steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..builder import Annotations, AnticipationBuilder, AnticipationConfig
from ..labels import LabelSpace
from ..segments import (
    AnnotationError,
    first_existing,
    frame_seconds,
    label_runs,
    read_annotation_json,
    segment_table,
    train_and_test,
)

NAMES = ("recognised_steps.json", "recognised_steps.json.gz")
# In the order of the public annotations' ids (github.com/youngkyoonjang/EPIC_Tent2019).
STEPS = (
    *("assemble support", "insert stake", "insert support", "insert support tab", "instruction"),
    *("pickup/open stakebag", "pickup/open supportbag", "pickup/open tentbag", "pickup/place ventcover"),
    *("place guyline", "spread tent", "tie top"),
)
GOPRO_FPS = 60000 / 1001
NUM_FOLDS = 5


class EpicTent(AnticipationBuilder):
    """EPIC-Tent. `data_dir` holds `recognised_steps.json` or `recognised_steps.json.gz`.

    The file is `{video: {"pred": [...], "gt": [...]}}`: recognized and true step ids (0 to 11) of consecutive frames;
    see `recognized_steps`. Segments are the runs of equal true steps.

    Frames are those of the GoPro videos at 59.94 per second, since the runs are as long as the segments of the public
    annotations (https://github.com/youngkyoonjang/EPIC_Tent2019, `str_GoPro_frame`, `end_GoPro_frame`). Files with
    another rate need `video_fps`. The file omits frames without an annotated step, so there is no background, times
    count annotated frames only, and `videos` is refused.

    Splits: `train` and `test`. Configurations: `fold1` (default) to `fold5`, each testing on every fifth video in order
    of their numbers, since no division is published. Each video shows a different person.
    """

    TITLE = "EPIC-Tent"
    BUILDER_CONFIGS = [AnticipationConfig(name=f"fold{fold}") for fold in range(1, NUM_FOLDS + 1)]
    DEFAULT_CONFIG_NAME = "fold1"
    ANNOTATION_FILES = NAMES

    def __init__(self, *args, videos: str | Path | None = None, **kwargs):
        if videos is not None:
            raise AnnotationError(
                f"videos is '{videos}', but EPIC-Tent's file omits frames without a step, so its times do not match "
                "the videos: leave out videos, otherwise rows would show wrong frames."
            )
        super().__init__(*args, **kwargs)

    def read_annotations(self, folder: Path) -> Annotations:
        steps, fps = recognized_steps(folder), self.config.video_fps or GOPRO_FPS
        runs = [(video_id, *run) for video_id, (_, true) in steps.items() for run in label_runs(true.tolist())]
        table = pd.DataFrame(runs, columns=["video_id", "action", "start_frame", "end_frame"])
        segments = segment_table(
            folder,
            space := LabelSpace(STEPS),
            uid=table["video_id"] + "_" + table["start_frame"].astype(str),
            video_id=table["video_id"],
            start_s=frame_seconds(table["start_frame"], fps),
            end_s=frame_seconds(table["end_frame"], fps),
            action=table["action"],
        )
        fold = int(self.config.name.removeprefix("fold"))
        if len(steps) < NUM_FOLDS:
            raise AnnotationError(f"{folder} has {len(steps)} videos: {NUM_FOLDS} folds need that many or more.")
        splits = train_and_test(folder, segments, list(steps)[fold - 1 :: NUM_FOLDS])
        return Annotations(space, splits, dict.fromkeys(steps, fps))


def recognized_steps(data_dir: str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the recognized and the true step of each frame by video, two int64 `(N,)` each, in order of video
    numbers.

    Args:
        data_dir (`str` or `Path`): The folder of `recognised_steps.json` or `recognised_steps.json.gz`.

    Raises:
        AnnotationError: If the file is missing or has another format, or a step id is out of range.
    """
    path = first_existing(Path(data_dir), *NAMES)
    if path is None:
        raise AnnotationError(f"{data_dir} has neither {NAMES[0]} nor {NAMES[1]}: give the folder of that file.")
    content = read_annotation_json(path)
    if not isinstance(content, dict) or not content:
        raise AnnotationError(f'{path} holds no videos: give {{"video": {{"pred": [...], "gt": [...]}}}}.')
    return {video_id: _steps(path, video_id, content[video_id]) for video_id in sorted(content, key=_number)}


def _steps(path: Path, video_id: str, video: Any) -> tuple[np.ndarray, np.ndarray]:
    lists = video if isinstance(video, dict) else {}
    frames = [lists[name] for name in ("pred", "gt") if isinstance(lists.get(name), list)]
    if len(frames) != 2 or not 0 < len(frames[0]) == len(frames[1]):
        raise AnnotationError(f"{path}: the video '{video_id}' has no 'pred' and 'gt' of as many frames: add them.")
    for steps in frames:
        wrong = next((step for step in steps if type(step) is not int or not 0 <= step < len(STEPS)), None)
        if wrong is not None:
            raise AnnotationError(f"{path}: the video '{video_id}' has the step {wrong!r}: steps are 0 to 11.")
    return np.array(frames[0], dtype=np.int64), np.array(frames[1], dtype=np.int64)


def _number(video_id: str) -> tuple[int, str]:
    """Returns the sort key of a video: the number at the end of its name, then the name."""
    digits = "".join(character for character in video_id if character.isdecimal())
    return int(digits or 0), video_id
