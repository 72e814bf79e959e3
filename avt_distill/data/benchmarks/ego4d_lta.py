"""Ego4D long-term anticipation, from its public annotation files (v1 and v2)."""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..builder import Annotations, AnticipationBuilder, AnticipationConfig
from ..labels import UNLABELLED, LabelSpace
from ..segments import AnnotationError, read_annotation_json, segment_table

logger = logging.getLogger(__name__)

FILES = {
    "train": "fho_lta_train.json",
    "validation": "fho_lta_val.json",
    "test": "fho_lta_test_unannotated.json",
}
TAXONOMY = "fho_lta_taxonomy.json"
FPS = 30.0
KEYS = ("clip_uid", "action_idx", "action_clip_start_sec", "action_clip_end_sec")
LABELS = ("verb_label", "noun_label")
FIRST = "first"  # stands for the last visible action in the uid of a clip's first action, which has none


class Ego4dLta(AnticipationBuilder):
    """Ego4D long-term anticipation. `data_dir` holds the annotations `fho_lta_*.json` (https://ego4d-data.org).

    A video is a clip, `<clip_uid>.mp4`, at 30 frames per second; times count from its beginning. Frames between
    annotated actions are background and unlabeled. An action is a pair of verb and noun in the labeled files; names
    come from `fho_lta_taxonomy.json`.

    A row's uid is the benchmark's id: `clip_uid`, "_", and the `action_idx` of the last visible action. Its target is
    the action after that one; a clip's first action has no row. The protocol predicts 20 actions
    (`num_future_actions=20`) and counts rows that have all of them: those whose last `future_start_s` is not null.
    Windows end where the target starts (`tau_a` 0) unless given; annotated actions are 8 s long and overlap, so that
    the last visible one may continue after the window.

    Splits: those of `train`, `validation` and the unlabeled `test` whose files exist; at least one of the first two is
    required.
    """

    TITLE = "Ego4D long-term anticipation"
    BUILDER_CONFIGS = [AnticipationConfig(name="default", tau_a=0.0)]
    DEFAULT_CONFIG_NAME = "default"
    ANNOTATION_FILES = (*FILES.values(), TAXONOMY)

    def read_annotations(self, folder: Path) -> Annotations:
        tables = {split: _read(folder / name) for split, name in FILES.items() if (folder / name).exists()}
        labelled = [table for split, table in tables.items() if split != "test"]
        if not labelled:
            raise AnnotationError(f"{folder} has neither {FILES['train']} nor {FILES['validation']}: add one of them.")
        pairs = {pair for table in labelled for pair in _pairs(table) if min(pair) >= 0}
        space = _label_space(folder / TAXONOMY, sorted(pairs))
        splits = {split: _segments(folder / FILES[split], table, space) for split, table in tables.items()}
        videos = {video_id for table in splits.values() for video_id in table["video_id"]}
        return Annotations(space, splits, dict.fromkeys(videos, FPS))

    @cached_property
    def dropped(self) -> dict[str, list[str]]:
        """The uids of each split's actions that follow a visible one but start too early to have a row."""
        return {split: [uid for uid in uids if not _is_first(uid)] for split, uids in super().dropped.items()}

    def rows(self, split: str) -> pd.DataFrame:
        rows = super().rows(split)
        return rows.loc[~rows["uid"].map(_is_first)].reset_index(drop=True)


def _is_first(uid: str) -> bool:
    return uid.endswith(f"_{FIRST}")


def _read(path: Path) -> pd.DataFrame:
    """Returns a file's annotated actions in order of clip and `action_idx`; labels are -100 if the file has none."""
    content = read_annotation_json(path)
    clips = content.get("clips") if isinstance(content, dict) else None
    if not isinstance(clips, list) or not clips or not all(isinstance(clip, dict) for clip in clips):
        raise AnnotationError(f'{path} has no actions: give the file as published, {{"clips": [...]}}.')
    table = pd.DataFrame.from_records(clips)
    missing = [name for name in KEYS if name not in table or table[name].isna().any()]
    if missing:
        raise AnnotationError(f"{path}: actions lack {missing}: give the file as published.")
    table = table.reindex(columns=[*KEYS, *LABELS]).fillna(UNLABELLED)
    return table.sort_values(["clip_uid", "action_idx"], kind="stable").reset_index(drop=True)


def _pairs(table: pd.DataFrame) -> list[tuple[int, int]]:
    """Returns the verb and the noun of each action."""
    verbs, nouns = (table[name].astype(int).tolist() for name in LABELS)
    return list(zip(verbs, nouns, strict=True))


def _label_space(path: Path, pairs: list[tuple[int, int]]) -> LabelSpace:
    """Returns the label space with the taxonomy's verbs and nouns, and one action per pair."""
    taxonomy = read_annotation_json(path)
    lists = taxonomy if isinstance(taxonomy, dict) else {}
    verbs, nouns = (_names(path, lists.get(kind)) for kind in ("verbs", "nouns"))
    unknown = [pair for pair in pairs if pair[0] >= len(verbs) or pair[1] >= len(nouns)]
    if unknown:
        raise AnnotationError(
            f"{path} names {len(verbs)} verbs and {len(nouns)} nouns, but an action has verb {unknown[0][0]} and noun "
            f"{unknown[0][1]}: give the taxonomy of the same version."
        )
    actions = tuple(f"{verbs[verb]} {nouns[noun]}" for verb, noun in pairs)
    return LabelSpace(actions, verbs, nouns, tuple(pairs))


def _names(path: Path, names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AnnotationError(f'{path} has not {{"verbs": [...], "nouns": [...]}}, lists of names: give the taxonomy.')
    return tuple(names)


def _segments(path: Path, table: pd.DataFrame, space: LabelSpace) -> pd.DataFrame:
    action_of = {pair: action for action, pair in enumerate(space.action_to_verb_noun or ())}
    last_visible = table.groupby("clip_uid")["action_idx"].shift()
    names = last_visible.map(lambda index: FIRST if pd.isna(index) else str(int(index)))
    segments = segment_table(
        path,
        space,
        uid=table["clip_uid"] + "_" + names,
        video_id=table["clip_uid"],
        start_s=table["action_clip_start_sec"],
        end_s=table["action_clip_end_sec"],
        verb=table["verb_label"],
        noun=table["noun_label"],
        action=[action_of.get(pair, UNLABELLED) for pair in _pairs(table)],
    )
    backwards = segments.loc[segments.groupby("video_id")["start_s"].diff() < 0, "uid"].tolist()
    if backwards:
        message = "%s: %d actions start before the one of the lower action_idx, '%s' first: futures list them by start."
        logger.warning(message, path, len(backwards), backwards[0])
    return segments
