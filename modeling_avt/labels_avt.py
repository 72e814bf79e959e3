"""Label maps: converted to one form from those of JSON and libraries, and replaced consistently."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .rules_avt import WholeNumber, plain, shown

logger = logging.getLogger(__name__)

MAX_CLASSES = 1_000_000
NUM_LABELS = WholeNumber(least=1, most=MAX_CLASSES)
LABEL_FIELDS = ("id2label", "label2id", "num_labels")  # three ways to name the same actions


def id_to_label(name: str, labels: Any) -> dict[int, str] | None:
    """Returns names by id, `{0: ..., 1: ...}`, in order of the ids.

    Args:
        name (`str`): Name of the argument, for error messages.
        labels (`Mapping`): Names by id; ids may be text, as in JSON, or NumPy's. `None` stays `None`.

    Raises:
        ValueError: If an id is not a number or ids leave gaps, or if a name is not text or is repeated.
    """
    if labels is None:
        return None
    if not isinstance(labels, Mapping) or not labels:
        raise ValueError(f"{name} is {shown(labels)}: give a dict of names by id, such as {{0: 'cut egg'}}.")
    ids = [_to_id(name, key) for key in labels]
    _check_ids(name, ids)
    by_id = dict(sorted(zip(ids, labels.values(), strict=True)))
    _check_names(name, list(by_id.values()))
    return by_id


def label_to_id(name: str, ids: Any) -> dict[str, int] | None:
    """Returns ids by name. Ids may be text, as transformers' example scripts write them, or NumPy's.

    Raises:
        ValueError: If `ids` is anything else.
    """
    if ids is None:
        return None
    if not isinstance(ids, Mapping):
        raise ValueError(f"{name} is {shown(ids)}: give a dict of ids by name, such as {{'cut egg': 0}}.")
    _check_names(name, list(ids))
    return {label: _to_id(name, index) for label, index in ids.items()}


def verb_noun_pairs(name: str, mapping: Any) -> list[list[int]] | None:
    """Returns the `[verb id, noun id]` of each action, given as a list or by action id."""
    if mapping is None:
        return None
    if isinstance(mapping, Mapping):
        by_action = {_to_id(name, action): pair for action, pair in mapping.items()}
        if sorted(by_action) != list(range(len(mapping))):
            raise ValueError(f"{name} has the action ids {_shorten(sorted(by_action))}: give one pair for each action.")
        mapping = [by_action[action] for action in range(len(by_action))]
    pairs = _as_list(mapping)
    if pairs is None:
        raise ValueError(f"{name} is {shown(mapping)}: give a list with the [verb id, noun id] of each action.")
    return [_to_pair(name, pair) for pair in pairs]


def settled_labels(id2label: Any, label2id: Any, num_labels: Any) -> dict[int, str] | None:
    """Returns names by id from three redundant arguments, or `None` if none is given.

    Raises:
        ValueError: If they contradict each other.
    """
    names, ids = id_to_label("id2label", id2label), label_to_id("label2id", label2id)
    count = None if num_labels is None else NUM_LABELS("num_labels", num_labels)
    if names is None and ids:
        _check_ids("label2id", list(ids.values()))
        names = id_to_label("label2id", {index: label for label, index in ids.items()})
    if names is None:
        return None if count is None else {index: f"LABEL_{index}" for index in range(count)}
    inverse = {label: index for index, label in names.items()}
    if ids and ids != inverse:
        label = min(label for label in {*ids, *inverse} if ids.get(label) != inverse.get(label))
        raise ValueError(
            f"label2id contradicts id2label ('{label}' has the id {ids.get(label)} in one and {inverse.get(label)} in "
            "the other): give id2label alone, or remove label2id from config.json, as it follows id2label."
        )
    if count not in (None, len(names)):
        raise ValueError(
            f"num_labels is {count}, but there are {len(names)} names of labels: give either the number or the names."
        )
    return names


def with_given(fields: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a checkpoint's fields updated with the caller's, without those that no longer describe the labels.

    The verb and noun of each action, and the calibration of the scores, belong to the checkpoint's own actions: with
    other actions, they are left out unless the caller passes them. The names of verbs and nouns stay if the checkpoint
    has classifiers for them. A reader stays, and is then refused, as its tables are weights: see
    `AVTConfig.check_consistency`.

    Args:
        fields (`Mapping`): The fields in the checkpoint's `config.json`.
        given (`Mapping`): The caller's fields, which replace them.
    """
    merged = {**fields, **{name: value for name, value in given.items() if name not in LABEL_FIELDS}}
    new = {name: given[name] for name in LABEL_FIELDS if given.get(name) is not None}
    has_other_actions = False
    if new:
        labels = settled_labels(**{**dict.fromkeys(LABEL_FIELDS), **new})
        previous = settled_labels(fields.get("id2label"), None, fields.get("num_labels")) or {}
        if new.keys() == {"num_labels"} and len(labels or {}) == len(previous):
            labels = previous
        has_other_actions = labels != previous
        merged |= {"id2label": labels, "label2id": None, "num_labels": None}
    void = [name for name in _void_fields(fields, given, has_other_actions) if merged.get(name) is not None]
    if void:
        logger.warning(
            "%s of the checkpoint is left out, as it belongs to other labels: pass the one of the new labels, if there "
            "is one.",
            " and ".join(void),
        )
    return {**merged, **dict.fromkeys(void)}


def _void_fields(fields: Mapping[str, Any], given: Mapping[str, Any], has_other_actions: bool) -> list[str]:
    """Returns the names of a checkpoint's fields that do not describe the given labels."""
    of_scores = ["calibration"] if has_other_actions and "calibration" not in given else []
    names = [f"{label_type}_id2label" for label_type in ("verb", "noun")]
    changed = [name for name in names if name in given and _are_others(name, given[name], fields.get(name))]
    if "action_to_verb_noun" in given or not (has_other_actions or changed):
        return of_scores
    classified = given.get("label_types", fields.get("label_types")) or ()
    of_others = [name for name in names if name not in given and name.split("_")[0] not in classified]
    return ["action_to_verb_noun", *(of_others if has_other_actions else ()), *of_scores]


def _are_others(name: str, labels: Any, previous: Any) -> bool:
    return id_to_label(name, labels) != id_to_label(name, previous)


def _to_id(name: str, value: Any) -> int:
    value = plain(value)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} has the id {shown(value)}: give whole numbers from 0 on.")
    return value


def _check_ids(name: str, ids: list[int]):
    if sorted(ids) != list(range(len(ids))):
        raise ValueError(f"{name} has the ids {_shorten(sorted(ids))}: ids must run from 0 to N-1 without gaps.")


def _check_names(name: str, labels: Sequence[Any]):
    for label in labels:
        if not isinstance(label, str):
            raise ValueError(f"{name} has the name {shown(label)}: give text.")
    if len(set(labels)) < len(labels):
        (repeated, _), *_ = Counter(labels).most_common(1)
        raise ValueError(f"{name} has the name '{repeated}' several times: give each id a name of its own.")


def _to_pair(name: str, value: Any) -> list[int]:
    pair = _as_list(value)
    if pair is None or len(pair) != 2:
        raise ValueError(f"{name} holds {shown(value)}: give the [verb id, noun id] of each action.")
    return [_to_id(name, part) for part in pair]


def _as_list(value: Any) -> list | None:
    """Returns the elements of a list, tuple, array or tensor; `None` for anything else."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        value = value.tolist()
    return list(value) if isinstance(value, (list, tuple)) else None


def _shorten(ids: list[int]) -> str:
    return str(ids) if len(ids) <= 8 else f"{ids[:4]} ... {ids[-1]}"
