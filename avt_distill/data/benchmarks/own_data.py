"""User data: a folder with `segments.csv`."""

import hashlib
import json
import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from modeling_avt.video_io_avt import probe

from ...runs.names import file_name, has_other_spelling
from ..builder import Annotations, AnticipationBuilder, AnticipationConfig
from ..labels import UNLABELLED, LabelSpace
from ..segments import AnnotationError, check_spellings, read_csv, segment_table
from ..videos import find_videos

logger = logging.getLogger(__name__)

REQUIRED = ("video_id", "start_s", "end_s", "action")
OPTIONAL = ("uid", "verb", "noun", "split", "fold", "narration")


@dataclass
class OwnDataConfig(AnticipationConfig):
    """Options of user data, in addition to those of `AnticipationConfig`.

    Args:
        fold (`str` or number, *optional*): The value in the column `fold` to hold out as `test`; all others are
            `train`. Values are compared as text; 1, "1" and "1.0" are equal.
        video_fps (`float`, *optional*): Frames per second of the videos, and of folders of pictures, which state none.
            Default: read from `videos`, or `frame_rate` without videos. Used for `frame_indices` and by protocol
                `"avt"`.
    """

    fold: str | float | None = None
    video_fps: float | None = None


class OwnData(AnticipationBuilder):
    """A folder with `segments.csv`, with at least the columns `video_id, start_s, end_s, action`.

    Optional columns: `uid, verb, noun, split, fold, narration`. Times are seconds from the first frame.
    `action`, `verb` and `noun` are names; ids follow their alphabetical order, or `labels.json` (`LabelSpace.save`) in
    the same folder if a fixed order is needed. An empty name means unlabeled. Without `uid`, segments are named by
    video and start, so that names do not change when other rows are added, moved or deleted. Splits: the values of
    `split`, or by `fold`, or all rows in `train`. Videos in the subfolder `videos/` are found without the option
    `videos`.
    """

    config: OwnDataConfig
    BUILDER_CONFIG_CLASS = OwnDataConfig
    BUILDER_CONFIGS = [OwnDataConfig(name="default")]
    ANNOTATION_FILES = ("segments.csv", "labels.json")

    def __init__(self, *args, data_dir: str | Path | None = None, videos: str | Path | None = None, **kwargs):
        if data_dir is not None and videos is None and (Path(data_dir) / "videos").is_dir():
            videos = Path(data_dir) / "videos"
        super().__init__(*args, data_dir=data_dir, videos=videos, **kwargs)

    def read_annotations(self, folder: Path) -> Annotations:
        path = folder / "segments.csv"
        table = read_csv(path, *REQUIRED)
        unused = sorted(set(table) - set(REQUIRED + OPTIONAL))
        if unused:
            logger.warning("%s: the columns %s are ignored; known columns are %s.", path, unused, REQUIRED + OPTIONAL)
        check_spellings(path, table, [name for name in REQUIRED + OPTIONAL if name != "narration"])
        pairs = _verbs_and_nouns(path, table)
        has_labels = (folder / "labels.json").exists()
        space = LabelSpace.load(folder / "labels.json") if has_labels else _label_space(path, table, pairs)
        _check_pairs(path, pairs, space)
        named = {"action": space.actions, "verb": space.verbs, "noun": space.nouns}
        columns = {name: _ids(path, table[name], names) for name, names in named.items() if name in table}
        for name in ("uid", "video_id", "start_s", "end_s", "narration"):
            if name in table:
                columns[name] = table[name]
        if "uid" not in table:
            columns["uid"] = _uids(table)
        segments = segment_table(path, space, **columns)
        return Annotations(space, self._divide(path, table, segments), self._video_fps(segments))

    def folds(self) -> dict[str, dict]:
        folds = _folds(read_csv(Path(self.config.data_dir) / "segments.csv", *REQUIRED))
        return {f"fold{file_name(fold, 'fold')}": {"fold": fold} for fold in sorted(set(folds) - {""})}

    def _divide(self, path: Path, table: pd.DataFrame, segments: pd.DataFrame) -> dict[str, pd.DataFrame]:
        if self.config.fold is not None:
            folds, fold = _folds(table), _fold_name(self.config.fold)
            if "fold" not in table:
                raise AnnotationError(f"{path} has no column 'fold': add it, or leave out fold={fold}.")
            if fold not in (known := sorted(set(folds) - {""})):
                raise AnnotationError(f"{path} has no fold '{fold}' in its column 'fold', but {known}.")
            if folds.eq("").any():
                logger.warning(
                    "%s: %d segments have no fold and are used for training: add a fold to hold them out.",
                    path,
                    folds.eq("").sum(),
                )
            names = folds.eq(fold).map({True: "test", False: "train"})
        else:
            names = table["split"] if "split" in table else pd.Series("train", index=table.index)
        unusable = [name for name in names.unique() if not re.fullmatch(r"\w+", name)]
        if unusable:
            raise AnnotationError(f"{path} has a split '{unusable[0]}': name splits in letters, digits and '_'.")
        _warn_of_divided_videos(path, table["video_id"], names)
        return {name: segments[(names == name).to_numpy()].reset_index(drop=True) for name in names.unique()}

    def _video_fps(self, segments: pd.DataFrame) -> dict[str, float]:
        if self.config.video_fps is not None or self.config.videos is None:
            return dict.fromkeys(segments["video_id"], self.config.video_fps or self.config.frame_rate)
        annotated = set(segments["video_id"])
        videos = find_videos([self.config.videos])
        return {video_id: probe(path).fps for video_id, path in videos.items() if video_id in annotated}


def _uids(table: pd.DataFrame) -> list[str]:
    """Returns a name for each segment from its video and its start in seconds, independent of its position in the file.

    Segments that start together are distinguished by a digest of their end and action, and equal ones are numbered.
    Other names thus reveal nothing about the action to anticipate.
    """
    numbers = table[["start_s", "end_s"]].apply(pd.to_numeric, errors="coerce").astype(float)
    content = list(zip(numbers["start_s"], numbers["end_s"], table["action"], table["video_id"], strict=True))
    digests = [hashlib.sha256(json.dumps(part).encode()).hexdigest()[:8] for part in content]
    names = [f"{video_id}_{start_s:.3f}" for start_s, _, _, video_id in content]
    count = Counter(names)
    names = [name if count[name] == 1 else f"{name}_{digest}" for name, digest in zip(names, digests, strict=True)]
    uids, occurrences = [], Counter()
    for name in names:
        occurrences[name] += 1
        uids.append(name if occurrences[name] == 1 else f"{name}_{occurrences[name]}")
    return uids


def _folds(table: pd.DataFrame) -> pd.Series:
    """Returns the fold of each segment as text, empty if there is none."""
    return table["fold"].map(_fold_name) if "fold" in table else pd.Series("", index=table.index)


def _fold_name(fold) -> str:
    """Returns a fold as text; whole numbers lose the decimals that spreadsheets may add."""
    return re.sub(r"^(-?\d+)\.0*$", r"\1", str(fold).strip())


def _warn_of_divided_videos(path: Path, video_ids: pd.Series, names: pd.Series):
    """Warns if segments of one video are in several splits, so that test videos are also trained on."""
    num_splits = names.groupby(video_ids).nunique()
    divided = num_splits[num_splits > 1]
    if len(divided):
        logger.warning(
            "%s: %d of %d videos have segments in several of the splits %s, such as '%s': models are then tested on "
            "videos that they were trained on, so put all segments of a video into one split or fold.",
            path,
            len(divided),
            len(num_splits),
            list(names.unique()),
            divided.index[0],
        )


def _verbs_and_nouns(path: Path, table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Returns the verb and the noun of each action that has them, `{"verb": {action: name}, "noun": ...}`.

    Raises:
        AnnotationError: If an action has two verbs or two nouns.
    """
    found = {}
    for kind in ("verb", "noun"):
        column = table[kind] if kind in table else pd.Series("", index=table.index)
        named = table["action"].ne("") & column.ne("")
        pairs = pd.DataFrame({"action": table["action"][named], "name": column[named]}).drop_duplicates()
        if (again := pairs["action"].duplicated()).any():
            line, (action, name) = pairs.index[again][0], pairs[again].iloc[0]
            first = pairs[pairs["action"] == action]
            raise AnnotationError(
                f"{path}, line {line}: the action '{action}' has the {kind} '{name}', but in line {first.index[0]} "
                f"'{first['name'].iloc[0]}': give an action one {kind}."
            )
        if incomplete := int((table["action"].isin(pairs["action"]) & ~named).sum()):
            logger.warning("%s: %d segments lack the %s that their action has elsewhere.", path, incomplete, kind)
        found[kind] = dict(zip(pairs["action"], pairs["name"], strict=True))
    return found


def _label_space(path: Path, table: pd.DataFrame, of_action: dict[str, dict[str, str]]) -> LabelSpace:
    """Returns the label space of a table, with each action's verb and noun if all actions have both.

    Raises:
        AnnotationError: If no row has an action.
    """
    table = table.reindex(columns=["action", "verb", "noun"], fill_value="")
    actions, verbs, nouns = (sorted(set(table[name]) - {""}) for name in table)
    if not actions:
        raise AnnotationError(
            f"{path} has no row with an action: name the action of each segment, or add labels.json to the folder if "
            "all are unlabeled."
        )
    pairs = None
    if all(action in of_action[kind] for action in actions for kind in of_action):
        pairs = [(verbs.index(of_action["verb"][name]), nouns.index(of_action["noun"][name])) for name in actions]
    return LabelSpace(actions, verbs, nouns, pairs)


def _check_pairs(path: Path, of_action: dict[str, dict[str, str]], space: LabelSpace):
    """Raises `AnnotationError` if an action's verb or noun differs from that in `labels.json`."""
    for position, (kind, names) in enumerate((("verb", space.verbs), ("noun", space.nouns))):
        for action, (*pair,) in zip(space.actions, space.action_to_verb_noun or (), strict=False):
            written = of_action[kind].get(action, names[pair[position]])
            if written != names[pair[position]]:
                raise AnnotationError(
                    f"{path}: the action '{action}' has the {kind} '{written}', but '{names[pair[position]]}' in "
                    "labels.json: correct one of them."
                )


def _ids(path: Path, names: pd.Series, known: tuple[str, ...]) -> pd.Series:
    ids = names.map({name: index for index, name in enumerate(known)} | {"": UNLABELLED})
    if ids.isna().any():
        line, unknown = ids.index[ids.isna()][0], names[ids.isna()].iloc[0]
        other = " in these Unicode characters" if has_other_spelling(unknown, known) else ""
        raise AnnotationError(
            f"{path}, line {line}: '{unknown}' is not in labels.json{other}: add it there, or correct the name."
        )
    return ids
