"""Submissions to the EPIC-Kitchens action anticipation challenges: building them from scores, and checking them.

Both formats are one JSON object: `version`, `challenge`, and `results`, which holds for each segment the scores of
every verb, of every noun, and of 100 actions named `"verb,noun"`. Sources of the formats:

- EPIC-Kitchens-100 (`"ek100"`): version `"0.2"`, supervision levels `sls_pt`, `sls_tl`, `sls_td` from 0 to 5, results
  by narration id. `check_submission` applies the rules of the organizers' own evaluation program
  (epic-kitchens/C3-Action-Anticipation, evaluate_anticipation_json_ek100.py): 97 verbs, 300 nouns, exactly 100 actions,
  and every segment of the split, including those before which nothing can be observed.
- EPIC-Kitchens-55 (`"ek55"`): version `"0.1"`, results by uid, a whole number without leading zeros. No validator is
  published; the format is what the authors' baseline writes (fpv-iplab/rulstm, RULSTM/utils.py,
  predictions_to_json), whose supervision levels are optional here because they were introduced after the challenge.

See epic-kitchens/SLS for the supervision levels. By its table, knowledge of relations between classes from other
corpora, such as a teacher trained on recipes, is level 5 of `sls_tl`.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.labels import LabelSpace
from ..metrics import marginal_scores, softmax, verb_noun_ids

NUM_ACTION_SCORES = 100
CHALLENGE_NAME = "action_anticipation"
SLS_FIELDS = ("sls_pt", "sls_tl", "sls_td")


@dataclass(frozen=True)
class ChallengeFormat:
    """The format of one benchmark's submissions."""

    version: str
    num_verbs: int
    num_nouns: int
    sls_required: bool


FORMATS = {
    "ek55": ChallengeFormat("0.1", num_verbs=125, num_nouns=352, sls_required=False),
    "ek100": ChallengeFormat("0.2", num_verbs=97, num_nouns=300, sls_required=True),
}


def build_submission(
    challenge: str,
    uids: Sequence[str],
    scores: np.ndarray,
    label_space: LabelSpace,
    *,
    sls: Sequence[int] | None = None,
    verb_scores: np.ndarray | None = None,
    noun_scores: np.ndarray | None = None,
    dropped_uids: Sequence[str] = (),
) -> dict:
    """Returns a checked submission, ready for `json.dump`.

    Args:
        challenge (`str`): `"ek55"` or `"ek100"`.
        uids (`Sequence[str]`): Narration id (EPIC-Kitchens-100) or uid (55) of each row.
        scores (`np.ndarray` of shape `(N, A)`): Logits of the actions. The 100 best are submitted, as probabilities.
        label_space (`LabelSpace`): The benchmark's label space, with all verbs and nouns.
        sls (`Sequence[int]`, *optional*): Pre-training, training-label and training-data levels, 0..5 each.
        verb_scores, noun_scores (`np.ndarray` of shape `(N, V)` and `(N, number of nouns)`, *optional*): Submitted
            instead of the marginal probabilities of `scores`.
        dropped_uids (`Sequence[str]`, *optional*): Segments without scores, since nothing can be observed before them.
            The challenge requires them nevertheless; all of their scores are 0, as in RULSTM (RULSTM/main.py).

    Raises:
        ValueError: If the label space has another size than the benchmark's, or `check_submission` refuses the result.
    """
    form = _format(challenge)
    if (len(label_space.verbs), len(label_space.nouns)) != (form.num_verbs, form.num_nouns):
        raise ValueError(
            f"label_space has {len(label_space.verbs)} verbs and {len(label_space.nouns)} nouns: the submission to "
            f"{challenge} needs {form.num_verbs} and {form.num_nouns}: give the official lists, including names "
            "without an action."
        )
    marginals = marginal_scores(scores, label_space)
    verb_scores = marginals[0] if verb_scores is None else np.asarray(verb_scores)
    noun_scores = marginals[1] if noun_scores is None else np.asarray(noun_scores)
    if not len(uids) == len(marginals[0]) == len(verb_scores) == len(noun_scores):
        raise ValueError(
            f"There are {len(uids)} uids for scores of {len(marginals[0])} actions', {len(verb_scores)} verbs' and "
            f"{len(noun_scores)} nouns' rows: give equal numbers."
        )
    keys = [_key(challenge, uid) for uid in [*uids, *dropped_uids]]
    if len(set(keys)) < len(keys):
        raise ValueError(f"{len(keys) - len(set(keys))} of the {len(keys)} uids are repeated: give each segment once.")

    submission: dict[str, Any] = {"version": form.version, "challenge": CHALLENGE_NAME}
    if sls is not None:
        if len(sls) != len(SLS_FIELDS):
            raise ValueError(f"sls is {list(sls)}: give three levels, {', '.join(SLS_FIELDS)}.")
        submission |= dict(zip(SLS_FIELDS, sls, strict=True))
    pairs = verb_noun_ids(label_space)
    rows = zip(verb_scores, noun_scores, softmax(scores), strict=True)
    results = [_entry(verbs, nouns, actions, pairs) for verbs, nouns, actions in rows]
    verbs, nouns, actions = (np.zeros(size) for size in (form.num_verbs, form.num_nouns, len(pairs)))
    results += [_entry(verbs, nouns, actions, pairs) for _ in dropped_uids]
    submission["results"] = dict(zip(keys, results, strict=True))
    check_submission(submission, challenge)
    return submission


def check_submission(submission: Mapping, challenge: str, *, expected_uids: Collection[str] | None = None):
    """Raises a `ValueError` unless the submission has the challenge's format.

    Args:
        submission (`Mapping`): As read from JSON.
        challenge (`str`): `"ek55"` or `"ek100"`.
        expected_uids (collection of `str`, *optional*): All segments of the split; none may be missing or extra.
    """
    form = _format(challenge)
    for field, accepted in (("version", form.version), ("challenge", CHALLENGE_NAME)):
        if submission.get(field) != accepted:
            raise ValueError(f"The submission's {field} is {submission.get(field)!r}: {challenge} needs '{accepted}'.")
    _check_sls(submission, form)
    results = submission.get("results")
    if not isinstance(results, Mapping) or not results:
        raise ValueError("The submission has no results: give the scores of at least one segment.")
    if expected_uids is not None:
        expected = {_key(challenge, uid) for uid in expected_uids}
        missing, extra = sorted(expected - set(results)), sorted(set(results) - expected)
        if missing or extra:
            raise ValueError(
                f"The submission lacks {len(missing)} segments of the split {missing[:1]} and has {len(extra)} others "
                f"{extra[:1]}: give each segment of the split once."
            )
    verbs = {str(verb) for verb in range(form.num_verbs)}
    nouns = {str(noun) for noun in range(form.num_nouns)}
    for uid, entry in results.items():
        _check_entry(uid, entry, verbs, nouns)


def _format(challenge: str) -> ChallengeFormat:
    if challenge not in FORMATS:
        raise ValueError(f"challenge is '{challenge}': give one of {', '.join(FORMATS)}.")
    return FORMATS[challenge]


def _key(challenge: str, uid: str) -> str:
    """Returns a segment's key in `results`. Annotations of EPIC-Kitchens-55 write uid 330 as 00330."""
    if challenge == "ek100":
        return str(uid)
    if not str(uid).isdecimal():
        raise ValueError(f"The uid '{uid}' is not a whole number, as in EPIC-Kitchens-55: give its uids.")
    return str(int(uid))


def _entry(verbs: np.ndarray, nouns: np.ndarray, actions: np.ndarray, pairs: np.ndarray) -> dict:
    """Returns the scores of one segment; ties between actions are broken by lower id."""
    best = np.argsort(-actions, kind="stable")[:NUM_ACTION_SCORES].tolist()
    return {
        "verb": {str(verb): float(score) for verb, score in enumerate(verbs)},
        "noun": {str(noun): float(score) for noun, score in enumerate(nouns)},
        "action": {"{},{}".format(*pairs[action]): float(actions[action]) for action in best},
    }


def _check_sls(submission: Mapping, form: ChallengeFormat):
    given = [field for field in SLS_FIELDS if field in submission]
    if not given and not form.sls_required:
        return
    for field in SLS_FIELDS:
        level = submission.get(field)
        if type(level) is not int or not 0 <= level <= 5:
            raise ValueError(f"The submission's {field} is {level!r}: give a whole number from 0 to 5.")


def _check_entry(uid: str, entry: Mapping, verbs: set[str], nouns: set[str]):
    """Raises `ValueError` unless a segment has a number for every verb and noun, and for exactly 100 actions."""
    for kind, expected in (("verb", verbs), ("noun", nouns)):
        if set(entry.get(kind, ())) != expected:
            raise ValueError(
                f"Segment '{uid}' does not score the {kind}s 0 to {len(expected) - 1}, each once: give them all."
            )
    actions = entry.get("action", {})
    if len(actions) != NUM_ACTION_SCORES:
        raise ValueError(f"Segment '{uid}' scores {len(actions)} actions: give exactly {NUM_ACTION_SCORES}.")
    for action in actions:
        pair = str(action).split(",")
        if len(pair) != 2 or pair[0] not in verbs or pair[1] not in nouns:
            raise ValueError(f"Segment '{uid}' scores an action '{action}': give 'verb id,noun id'.")
    for kind in ("verb", "noun", "action"):
        for name, score in entry[kind].items():
            if type(score) not in (int, float) or not math.isfinite(score):
                raise ValueError(f"Segment '{uid}' gives {kind} {name} the score {score!r}: give a finite number.")
