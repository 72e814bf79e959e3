"""Anyone's own data: a folder with `segments.csv`."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from modeling_avt.video_io_avt import probe

from ...runs.names import file_name
from ..builder import Annotations, AnticipationBuilder, AnticipationConfig
from ..labels import UNLABELLED, LabelSpace
from ..segments import AnnotationError, read_csv, segment_table
from ..videos import find_videos

logger = logging.getLogger(__name__)

REQUIRED = ("video_id", "start_s", "end_s", "action")
OPTIONAL = ("uid", "verb", "noun", "split", "fold", "narration")


@dataclass
class OwnDataConfig(AnticipationConfig):
    """Options of one's own data: those of every builder, and these.

    Args:
        fold (`str` or number, *optional*): The value of the column `fold` that is held out as `test`; the others are
            `train`. Compared as text; 1, "1" and "1.0" are the same.
        video_fps (`float`, *optional*): Frames per second of the videos. Default: read from `videos`, or `frame_rate`
            where there are none; matters to `frame_indices`, and to protocol `"avt"`.
    """

    fold: str | float | None = None
    video_fps: float | None = None


class OwnData(AnticipationBuilder):
    """A folder with `segments.csv`, at least `video_id, start_s, end_s, action`.

    Further columns are possible: `uid, verb, noun, split, fold, narration`. Times are seconds from the first frame.
    `action`, `verb` and `noun` are names; ids follow their alphabetical order, or `labels.json` (`LabelSpace.save`) in
    the same folder where a fixed order is needed. An empty name is unlabelled. Splits: the values of `split`, or by
    `fold`, or all in `train`. Videos in `videos/` are found without being named.
    """

    config: OwnDataConfig
    BUILDER_CONFIG_CLASS = OwnDataConfig
    BUILDER_CONFIGS = [OwnDataConfig(name="default")]
    ANNOTATION_FILES = ("segments.csv", "labels.json")

    def __init__(self, *args, data_dir: str | Path, videos: str | Path | None = None, **kwargs):
        if videos is None and (Path(data_dir) / "videos").is_dir():
            videos = Path(data_dir) / "videos"
        super().__init__(*args, data_dir=data_dir, videos=videos, **kwargs)

    def read_annotations(self, folder: Path) -> Annotations:
        path = folder / "segments.csv"
        table = read_csv(path, *REQUIRED)
        unused = sorted(set(table) - set(REQUIRED + OPTIONAL))
        if unused:
            logger.warning("%s: the columns %s are not used; known are %s.", path, unused, REQUIRED + OPTIONAL)
        space = LabelSpace.load(folder / "labels.json") if (folder / "labels.json").exists() else _label_space(table)
        named = {"action": space.actions, "verb": space.verbs, "noun": space.nouns}
        columns = {name: _ids(path, table[name], names) for name, names in named.items() if name in table}
        for name in ("uid", "video_id", "start_s", "end_s", "narration"):
            if name in table:
                columns[name] = table[name]
        if "uid" not in table:  # the segments of each video are numbered in the order of the file
            columns["uid"] = table["video_id"] + "_" + table.groupby("video_id").cumcount().astype(str)
        segments = segment_table(path, space, **columns)
        return Annotations(space, self._divide(path, table, segments), self._video_fps(segments))

    def folds(self) -> dict[str, dict]:
        folds = _folds(read_csv(Path(self.config.data_dir) / "segments.csv", *REQUIRED))
        return {f"fold{file_name(fold, 'fold')}": {"fold": fold} for fold in sorted(set(folds) - {""})}

    def _divide(self, path: Path, table: pd.DataFrame, segments: pd.DataFrame) -> dict[str, pd.DataFrame]:
        if self.config.fold is not None:
            folds, fold = _folds(table), _fold_name(self.config.fold)
            if fold not in set(folds):
                raise AnnotationError(f"{path} has no fold '{fold}' in its column 'fold', but {sorted(set(folds))}.")
            names = folds.eq(fold).map({True: "test", False: "train"})
        else:
            names = table["split"] if "split" in table else pd.Series("train", index=table.index)
        unusable = [name for name in names.unique() if not re.fullmatch(r"\w+", name)]
        if unusable:
            raise AnnotationError(f"{path} has a split '{unusable[0]}': name splits in letters, digits and '_'.")
        return {name: segments[names == name].reset_index(drop=True) for name in names.unique()}

    def _video_fps(self, segments: pd.DataFrame) -> dict[str, float]:
        if self.config.video_fps is not None or self.config.videos is None:
            return dict.fromkeys(segments["video_id"], self.config.video_fps or self.config.frame_rate)
        annotated = set(segments["video_id"])
        videos = find_videos([self.config.videos])
        return {video_id: probe(path).fps for video_id, path in videos.items() if video_id in annotated}


def _folds(table: pd.DataFrame) -> pd.Series:
    """Returns the fold of each segment as text, empty where there is none."""
    return table["fold"].map(_fold_name) if "fold" in table else pd.Series("", index=table.index)


def _fold_name(fold) -> str:
    """Returns a fold as text, however it was written: whole numbers, which spreadsheets may give decimals, without."""
    return re.sub(r"^(\d+)\.0+$", r"\1", str(fold).strip())


def _label_space(table: pd.DataFrame) -> LabelSpace:
    """Returns the names in a table, and each action's verb and noun where all actions have both."""
    table = table.reindex(columns=["action", "verb", "noun"], fill_value="")
    actions, verbs, nouns = (sorted(set(table[name]) - {""}) for name in table)
    of_action = table.drop_duplicates("action").set_index("action").loc[actions]
    pairs = None
    if of_action.ne("").all(axis=None):
        pairs = [(verbs.index(verb), nouns.index(noun)) for verb, noun in of_action.itertuples(index=False)]
    return LabelSpace(actions, verbs, nouns, pairs)


def _ids(path: Path, names: pd.Series, known: tuple[str, ...]) -> pd.Series:
    ids = names.map({name: index for index, name in enumerate(known)} | {"": UNLABELLED})
    if ids.isna().any():
        unknown = names[ids.isna()].iloc[0]
        raise AnnotationError(f"{path}: '{unknown}' is not in labels.json: add it there, or correct the name.")
    return ids
