"""Files of groups for metrics: classes (many-shot, tail), rows (unseen), and rows without scores.

Classes are given as text with one action id per line, as JSON, or as CSV files of EPIC-Kitchens, such as
`EPIC_100_tail_verbs.csv` and `EPIC_many_shot_actions.csv`; rows as uids, or as the participants of
`EPIC_100_unseen_participant_ids_validation.csv`.
"""

import csv
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.labels import LabelSpace
from ..metrics import many_shot_actions
from ..runs.texts import read_user_text
from .uid_tables import note_on_uids

logger = logging.getLogger(__name__)

PARTICIPANTS = "participant_id"  # column of a file of participants, with whose ids the uids of EPIC-Kitchens-100 begin
HEADINGS_OF_ROWS = ("uid", "narration_id")
KINDS = ("action", "verb", "noun")
ACCEPTED = "give one action id per line, JSON (a list, or {'action': [...], 'verb': [...], 'noun': [...]}), or CSV"


def read_class_ids(
    paths: Sequence[Path] | None, label_space: LabelSpace | None, *, rule: str
) -> dict[str, list[int]] | None:
    """Returns class ids by kind (`"action"`, `"verb"` or `"noun"`) from files; `None` without files.

    Args:
        paths (sequence of `Path`, *optional*): The files.
        label_space (`LabelSpace`, *optional*): Converts pairs of verb and noun to actions.
        rule (`str`): How a file of verbs and one of nouns select actions: see `metrics.many_shot_actions`.

    Raises:
        ValueError: If a file has another format, or two files hold one kind of ids. The message names them.
    """
    found: dict[str, list[int]] = {}
    for path in paths or ():
        for kind, ids in _class_ids_of_file(path, label_space).items():
            if kind in found:
                raise ValueError(f"{path} holds {kind} ids, as an earlier file does: give one file per kind.")
            found[kind] = ids
    both = "verb" in found and "noun" in found and "action" not in found
    if len(paths or ()) > 1 and both and label_space is not None and label_space.action_to_verb_noun is not None:
        found["action"] = many_shot_actions(label_space, found["verb"], found["noun"], rule=rule)
    return found or None


def _class_ids_of_file(path: Path, label_space: LabelSpace | None) -> dict[str, list[int]]:
    text = read_user_text(path).strip()
    if text[:1] in ("[", "{"):
        return _of_json(path, text)
    rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if any(row)]
    if not rows:
        raise ValueError(f"{path} is empty: {ACCEPTED}.")
    if _is_id(rows[0][0]):
        return {"action": [_id(path, number, row[0]) for number, row in enumerate(rows, start=1)]}
    return _of_table(path, [name.strip() for name in rows[0]], rows[1:], label_space)


def _of_json(path: Path, text: str) -> dict[str, list[int]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} begins like JSON but is not valid ({error}): correct it.") from error
    by_kind = content if isinstance(content, dict) else {"action": content}
    for kind, ids in by_kind.items():
        if kind not in KINDS or not isinstance(ids, list) or not all(type(value) is int for value in ids):
            raise ValueError(f"{path} holds no lists of class ids by {', '.join(KINDS)} ('{kind}'): {ACCEPTED}.")
    return by_kind


def _of_table(
    path: Path, names: list[str], rows: list[list[str]], label_space: LabelSpace | None
) -> dict[str, list[int]]:
    columns = {kind: f"{kind}_class" if f"{kind}_class" in names else kind for kind in KINDS}
    ids = {}
    for kind, name in columns.items():
        if name in names:
            at = names.index(name)
            values = [row[at] if at < len(row) else "" for row in rows]
            if kind == "action" and {columns["verb"], columns["noun"]} <= set(names):
                continue  # EPIC-Kitchens-55 writes actions as pairs, which the other two columns also contain
            ids[kind] = [_id(path, number, value) for number, value in enumerate(values, start=2)]
    if not ids:
        raise ValueError(
            f"{path} begins with '{','.join(names)}', which is neither a class id nor a column of verbs, nouns or "
            f"actions: {ACCEPTED}. For names of rows use --unseen."
        )
    if not {"verb", "noun"} <= set(ids):
        return ids
    pairs = zip(ids["verb"], ids["noun"], strict=True)
    if label_space is None or label_space.action_to_verb_noun is None:
        raise ValueError(f"{path} holds pairs of verbs and nouns: give --label_space, which numbers their actions.")
    action_of = {pair: action for action, pair in enumerate(label_space.action_to_verb_noun)}
    actions = {pair: action_of.get(pair) for pair in pairs}
    unknown = [pair for pair, action in actions.items() if action is None]
    if unknown:
        raise ValueError(
            f"{path} has verb {unknown[0][0]} and noun {unknown[0][1]}, but no action has this pair: give the file of "
            "this label space."
        )
    return {"action": [action for action in actions.values() if action is not None]}


def _is_id(text: str) -> bool:
    return text.strip().isascii() and text.strip().isdigit()


def _id(path: Path, line: int, text: str) -> int:
    if not _is_id(text):
        raise ValueError(f"{path}, line {line}: '{text}' is not a class id: {ACCEPTED}.")
    return int(text)


def read_rows(path: Path | None, num_fields: int) -> list[list[str]]:
    """Returns the rows of a CSV file without a header; values that contain commas are quoted.

    Raises:
        ValueError: If a row has another number of fields. The message names the file and the line.
    """
    lines = [] if path is None else read_user_text(path).splitlines()
    reader = csv.reader(lines, skipinitialspace=True)
    rows = []
    for row in reader:
        if row and len(row) != num_fields:
            raise ValueError(
                f"{path} has a line '{','.join(row)}': give {num_fields} fields per line, those with commas in quotes "
                f"(line {reader.line_num})."
            )
        if any(row):
            rows.append([field.strip() for field in row])
    return rows


def read_unseen(path: Path, uids: Sequence[str]) -> np.ndarray:
    """Returns a mask of the rows in a file of unseen rows or participants, bool `(N,)`.

    Args:
        path (`Path`): One uid per line, with or without the heading `uid` or `narration_id`; or, under the heading
            `participant_id`, one participant per line, as published by EPIC-Kitchens-100, which selects the rows whose
            uids begin with the participant and an underscore.
        uids (sequence of `str`): The uids of the N rows.

    Raises:
        ValueError: If the file names no row, or a participant has none. Uids without a row are counted in a warning,
            since published lists also name rows that start too early to be anticipated.
    """
    names = [name for (name,) in read_rows(path, 1)]
    heading = names.pop(0) if names and names[0] in (PARTICIPANTS, *HEADINGS_OF_ROWS) else None
    keys = [uid.partition("_")[0] if heading == PARTICIPANTS else uid for uid in uids]
    absent = [name for name in dict.fromkeys(names) if name not in set(keys)]
    if len(absent) == len(set(names)) or (absent and heading == PARTICIPANTS):
        named = f"'{absent[0]}', which matches no row" if absent else "nothing"
        raise ValueError(
            f"{path} names {named}; rows have uids such as '{uids[0]}': give uids of rows, one per line, or the "
            f"participants at the beginning of the uids, under the heading {PARTICIPANTS}{note_on_uids(names, uids)}."
        )
    if absent:
        logger.warning("%s names %d rows without scores, '%s' first.", path, len(absent), absent[0])
    return np.isin(keys, names)


def read_dropped(path: Path | None) -> dict[str, int]:
    """Reads the action ids of rows without scores, by uid, from lines `uid,action id`.

    Raises:
        ValueError: If a line has another format, or a uid occurs twice.
    """
    dropped: dict[str, int] = {}
    for uid, label in read_rows(path, 2):
        if not re.fullmatch("-?[0-9]{1,18}", label):  # as many digits as 64 bits hold
            raise ValueError(f"{path} has '{label}' for '{uid}': give an action id, or -100 for a test split.")
        if uid in dropped:
            raise ValueError(f"{path} names '{uid}' twice: keep one of the lines.")
        dropped[uid] = int(label)
    return dropped
