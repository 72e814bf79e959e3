"""Long-term anticipation: edit distance between predicted sequences of actions and the true next actions.

Ego4D's protocol (EGO4D/forecasting, `evaluation/lta_metrics.py`): K = 5 sequences of the next Z = 20 actions. ED@Z of a
row is the minimum over its K sequences of the edit distance divided by Z: 0 for a correct sequence, 1 without a match.
Substitutions, insertions and deletions cost 1.

The reference's docstring states Damerau-Levenshtein, in which swapping two neighbors also costs 1, but its code calls
`editdistance.eval`, plain Levenshtein. Published numbers use the plain distance, and so do these functions. In
validation the reference averages over batches, these functions over rows.
"""

import numpy as np

from ..data.labels import UNLABELLED, LabelSpace
from .anticipation import labels_of_kind

# Sequences per batch, so that tables fit into a processor's cache.
SEQUENCES_AT_ONCE = 2048


def edit_distances(
    predicted: np.ndarray, actual: np.ndarray, label_space: LabelSpace | None = None, *, skip_incomplete: bool = False
) -> dict[str, float]:
    """Returns ED@Z and the area under ED@1..Z for actions and, if the label space has them, verbs and nouns.

    Verbs and nouns are those of the predicted actions. For a model that predicts them separately, such as Ego4D's
    baseline, call `edit_distance_at` for each.

    Args:
        predicted (`np.ndarray` of shape `(N, K, Z)`): Action ids of each row's K sequences, the next action first.
        actual (`np.ndarray` of shape `(N, Z)`): Action ids of what was done; `-100` after the end of the annotations.
        label_space (`LabelSpace`, *optional*): With `action_to_verb_noun`, adds verbs and nouns.
        skip_incomplete (`bool`, *optional*, defaults to `False`): Leave out rows with fewer than Z annotated actions,
            which Ego4D does not have, instead of refusing them.

    Returns:
        `dict[str, float]`: `action_ed@20` if Z is 20, `action_aued` if Z is at least 2, likewise `verb_` and
        `noun_`; `num_rows` that were measured and `num_incomplete` that were left out.

    Raises:
        ValueError: See `row_edit_distances`; also if rows are incomplete, unless they are to be left out, or if all
            are.
    """
    predicted, actual = _check_sequences(predicted, actual)
    if label_space is not None:
        _check_range(predicted, actual, len(label_space.actions))
    kinds = ("action",)
    if label_space is not None and label_space.action_to_verb_noun is not None:
        kinds = ("action", "verb", "noun")
    complete = _complete_rows(actual, actual.shape[1], skip_incomplete)
    predicted, kept = predicted[complete], actual[complete]
    metrics = {}
    for kind in kinds:
        of_kind = (labels_of_kind(ids, kind, label_space) for ids in (predicted, kept))
        by_length = row_edit_distances(*of_kind).mean(axis=0)
        metrics[f"{kind}_ed@{len(by_length)}"] = float(by_length[-1])
        if len(by_length) > 1:
            metrics[f"{kind}_aued"] = _area(by_length)
    return {**metrics, "num_rows": len(kept), "num_incomplete": len(actual) - len(kept)}


def edit_distance_at(
    predicted: np.ndarray, actual: np.ndarray, z: int | None = None, *, skip_incomplete: bool = False
) -> float:
    """Returns ED@z: the mean over rows of the least edit distance among K sequences, divided by z; from 0 to 1.

    Args:
        predicted (`np.ndarray` of shape `(N, K, Z)`): Class ids of each row's K sequences, the next action first.
        actual (`np.ndarray` of shape `(N, Z)`): Class ids of what was done; `-100` after the end of the annotations.
        z (`int`, *optional*, defaults to Z): Only the first z actions of both are compared.
        skip_incomplete (`bool`, *optional*, defaults to `False`): Leave out rows with fewer than z annotated actions,
            instead of refusing them.

    Raises:
        ValueError: See `row_edit_distances`; also if z is not from 1 to Z, or if rows have fewer than z annotated
            actions, unless they are to be left out, or if all have.
    """
    predicted, actual = _check_sequences(predicted, actual)
    length = actual.shape[1] if z is None else z
    if not 1 <= length <= actual.shape[1]:
        raise ValueError(f"z is {z}: give a number from 1 to the {actual.shape[1]} annotated actions of a row.")
    complete = _complete_rows(actual, length, skip_incomplete)
    return float(row_edit_distances(predicted[complete, :, :length], actual[complete, :length])[:, -1].mean())


def area_under_edit_distance(predicted: np.ndarray, actual: np.ndarray, *, skip_incomplete: bool = False) -> float:
    """Returns Ego4D's AUED: the area under ED@1 ... ED@Z by the trapezoid rule, divided by Z - 1.

    Args:
        predicted (`np.ndarray` of shape `(N, K, Z)`): Class ids of each row's K sequences, the next action first.
        actual (`np.ndarray` of shape `(N, Z)`): Class ids of what was done; `-100` after the end of the annotations.
        skip_incomplete (`bool`, *optional*, defaults to `False`): Leave out rows with fewer than Z annotated actions,
            instead of refusing them.

    Raises:
        ValueError: See `edit_distance_at`; also if Z is 1, for which there is no area.
    """
    predicted, actual = _check_sequences(predicted, actual)
    if actual.shape[1] < 2:
        raise ValueError("actual has a single action per row, which leaves no area under the curve: give at least 2.")
    complete = _complete_rows(actual, actual.shape[1], skip_incomplete)
    return _area(row_edit_distances(predicted[complete], actual[complete]).mean(axis=0))


def row_edit_distances(predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Returns ED@1 ... ED@Z of each row, float64 `(N, Z)`; NaN where a row has fewer annotated actions.

    A column holds one number per row, for `evaluation.statistics`.

    Args:
        predicted (`np.ndarray` of shape `(N, K, Z)`): Class ids of each row's K sequences, the next action first.
        actual (`np.ndarray` of shape `(N, Z)`): Class ids of what was done. The first `-100` ends a row: actions after
            an unknown one are not measured.

    Raises:
        ValueError: If there are no rows, sequences or actions, shapes do not match, or a predicted id is negative.
    """
    predicted, actual = _check_sequences(predicted, actual)
    num_rows, num_sequences, length = predicted.shape
    sequences = predicted.reshape(-1, length)
    targets = np.repeat(actual, num_sequences, axis=0)
    distances = np.empty((len(sequences), length))
    for start in range(0, len(sequences), SEQUENCES_AT_ONCE):
        rows = slice(start, start + SEQUENCES_AT_ONCE)
        distances[rows] = _prefix_distances(sequences[rows], targets[rows])
    least = distances.reshape(num_rows, num_sequences, length).min(axis=1) / np.arange(1, length + 1)
    unknown = np.logical_or.accumulate(actual == UNLABELLED, axis=1)
    return np.where(unknown, np.nan, least)


def _prefix_distances(sequences: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the edit distance of the first z elements of both, z from 1 to Z, `(M, Z)`, for M pairs at once.

    They are the diagonal of the table of Wagner and Fischer. Within a row, a cell depends on its left neighbor only by
    insertions, which cost 1 each, so a running minimum of (cost - column) computes them for the whole row.
    """
    sequences, targets = (np.ascontiguousarray(array.T) for array in (sequences, targets))  # (Z, M)
    columns = np.arange(len(targets) + 1, dtype=np.int32)[:, None]
    row = np.broadcast_to(columns, (len(targets) + 1, targets.shape[1])).copy()  # (Z + 1, M)
    diagonal = np.empty(targets.shape, dtype=np.int32)
    for index, elements in enumerate(sequences):
        cost = row + 1  # deletions
        np.minimum(cost[1:], row[:-1] + (targets != elements), out=cost[1:])  # matches and substitutions
        row = np.minimum.accumulate(cost - columns, axis=0) + columns
        diagonal[index] = row[index + 1]
    return diagonal.T


def _area(by_length: np.ndarray) -> float:
    return float((by_length[:-1] + by_length[1:]).sum() / 2 / (len(by_length) - 1))


def _complete_rows(actual: np.ndarray, z: int, skip_incomplete: bool) -> np.ndarray:
    """Returns which rows have z annotated actions, bool `(N,)`; refuses others unless they are to be left out."""
    complete = (actual[:, :z] != UNLABELLED).all(axis=1)
    num_incomplete = len(actual) - int(complete.sum())
    if num_incomplete and not skip_incomplete:
        raise ValueError(
            f"actual has {num_incomplete} of {len(actual)} rows with fewer than {z} annotated actions: leave these "
            "rows out, compare fewer actions, or give skip_incomplete=True."
        )
    if not complete.any():
        raise ValueError(f"No row of actual has {z} annotated actions: compare fewer.")
    return complete


def _check_sequences(predicted: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, actual = np.asarray(predicted), np.asarray(actual)
    for name, ids, shape in (("predicted", predicted, "(N, K, Z)"), ("actual", actual, "(N, Z)")):
        if ids.ndim != shape.count(",") + 1 or 0 in ids.shape or ids.dtype.kind not in "iu":
            raise ValueError(
                f"{name} has shape {ids.shape} and type {ids.dtype}: give integers of shape {shape}, each at least 1."
            )
    if predicted[:, 0].shape != actual.shape:
        raise ValueError(
            f"predicted has shape {predicted.shape} and actual {actual.shape}: give (N, K, Z) and (N, Z) of the same "
            "rows and as many actions."
        )
    if predicted.min() < 0:
        raise ValueError(f"predicted has {predicted.min()}: give class ids from 0 for each of the Z actions.")
    if negative := actual[(actual < 0) & (actual != UNLABELLED)].tolist():
        raise ValueError(
            f"actual has {negative[0]}: give class ids from 0, or {UNLABELLED} after the annotations' end."
        )
    return predicted.astype(np.int64), actual.astype(np.int64)


def _check_range(predicted: np.ndarray, actual: np.ndarray, num_actions: int):
    for name, ids in (("predicted", predicted), ("actual", actual)):
        if ids.max() >= num_actions:
            raise ValueError(f"{name} has {ids.max()}: give action ids from 0 to {num_actions - 1}.")
