"""Label spaces: the actions of a benchmark, with the verb and noun of each."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from ..runs.folder import write_json
from ..runs.texts import read_user_json

FORM = (
    'write {"actions": ["cut egg", ...], "verbs": [...], "nouns": [...], "action_to_verb_noun": [[0, 0], ...]}, names '
    "in the order of their ids, the last three empty or null if unknown"
)
UNLABELLED = -100  # replaces an unknown id; the `ignore_index` of torch's cross entropy


@dataclass(frozen=True)
class LabelSpace:
    """Names of the A actions, V verbs and N nouns by id, and which verb and noun each action has.

    Matching scores, soft labels and checkpoints share a label space, identified by its `content_hash`.

    Args:
        actions (`tuple[str, ...]`): Action names, ids 0..A-1.
        verbs, nouns (`tuple[str, ...]`, *optional*): Verb and noun names; empty if the benchmark has none.
        action_to_verb_noun (`tuple[tuple[int, int], ...]`, *optional*): `(verb id, noun id)` of each action.

    Raises:
        ValueError: If names have no order, there are no actions, a name is blank or repeated, or the map does not hold
            one in-range pair per action.
    """

    actions: tuple[str, ...]
    verbs: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    action_to_verb_noun: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self):
        for kind in ("actions", "verbs", "nouns"):
            given = getattr(self, kind)
            if isinstance(given, (str, bytes, Mapping, Set)) or not isinstance(given, Iterable):
                form = type(given).__name__
                raise ValueError(f"{kind} is a {form}: give a list of names, in the order of their ids.")
            names = tuple(str(name).strip() for name in given)
            object.__setattr__(self, kind, names)
            repeated = sorted(name for name, count in Counter(names).items() if count > 1)
            if "" in names or repeated:
                raise ValueError(
                    f"{kind} holds blank or repeated names ({repeated[:3]}): give each id a name of its own."
                )
        if not self.actions:
            raise ValueError("actions is empty: give at least one action name.")
        if self.action_to_verb_noun is not None:
            pairs = tuple((int(verb), int(noun)) for verb, noun in self.action_to_verb_noun)
            object.__setattr__(self, "action_to_verb_noun", pairs)
            self._check_pairs()

    def _check_pairs(self):
        if len(self.action_to_verb_noun) != len(self.actions):
            raise ValueError(
                f"action_to_verb_noun has {len(self.action_to_verb_noun)} pairs for {len(self.actions)} actions: "
                "give one (verb id, noun id) for each."
            )
        for action, (verb, noun) in zip(self.actions, self.action_to_verb_noun, strict=True):
            if not (0 <= verb < len(self.verbs) and 0 <= noun < len(self.nouns)):
                raise ValueError(
                    f"Action '{action}' has verb {verb} and noun {noun}, but there are {len(self.verbs)} verbs and "
                    f"{len(self.nouns)} nouns: give ids in these ranges, counted from 0."
                )

    @cached_property
    def content_hash(self) -> str:
        """A short digest of names and maps, equal for equal label spaces from any source."""
        content = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def verb_noun_ids(self) -> np.ndarray | None:
        """`action_to_verb_noun` as int64 `(A, 2)`."""
        return None if self.action_to_verb_noun is None else np.array(self.action_to_verb_noun, dtype=np.int64)

    def to_config(self) -> dict:
        """Returns the `AVTConfig` fields that describe these labels, `id2label` and so on."""
        return {
            "id2label": dict(enumerate(self.actions)),
            "verb_id2label": dict(enumerate(self.verbs)) or None,
            "noun_id2label": dict(enumerate(self.nouns)) or None,
            "action_to_verb_noun": None if self.verb_noun_ids is None else self.verb_noun_ids.tolist(),
        }

    def save(self, path: str | Path):
        """Writes the label space as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> "LabelSpace":
        """Reads a label space written by `save`.

        Raises:
            ValueError: If the file is not JSON or has another format. The message names the file.
        """
        content = read_user_json(path)
        try:
            return cls(**_checked_form(content))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a label space ({str(error).rstrip('.')}): {FORM}.") from error


def _checked_form(content) -> dict:
    """Returns the fields of a label space that was read from JSON; raises `ValueError` for another form."""
    if not isinstance(content, dict) or "actions" not in content:
        raise ValueError(f"it holds a {type(content).__name__}" + " without 'actions'" * isinstance(content, dict))
    known = {field.name: content.get(field.name) for field in fields(LabelSpace)}
    names = {kind: known[kind] or [] for kind in ("actions", "verbs", "nouns")}
    for kind, values in names.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"'{kind}' is not a list of names")
    pairs = known["action_to_verb_noun"]
    if pairs is not None and not (isinstance(pairs, list) and all(map(_is_pair, pairs))):
        raise ValueError("'action_to_verb_noun' is not a list of pairs of ids")
    return {**names, "action_to_verb_noun": pairs}


def _is_pair(value) -> bool:
    is_list = isinstance(value, list) and len(value) == 2
    return is_list and all(isinstance(number, int) and not isinstance(number, bool) for number in value)
