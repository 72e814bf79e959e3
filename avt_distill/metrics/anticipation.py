"""Metrics of action anticipation, in percent: pure functions of scores and labels.

- Top-k accuracy: the share of rows whose label is among the k best scores.
- Class-mean top-k recall: that share within each class, averaged over the classes that occur among the labels. For
  k = 1 it is what EGTEA Gaze+ calls mean class accuracy; for k = 5 it is the measure of EPIC-Kitchens-100.

Ties count against the label: a class that scores as high as the label is ranked ahead of it, so that constant scores
never hit and the numbering of the classes does not matter. (The reference's two functions disagree on ties:
`compute_topk` depends on the order of `argpartition`, `topk_recall` prefers the highest ids.)

Verbs and nouns are scored by marginal probabilities: softmax over actions, summed over the actions of each. A verb or
noun without any action has probability 0; RULSTM gives it that of action 0 (RULSTM/utils.py, get_marginal_indexes).
"""

from collections.abc import Collection, Mapping, Sequence, Set

import numpy as np
import pandas as pd
import scipy.special

from ..data.labels import LabelSpace
from .checks import check_ids, check_labels, check_matrix, check_scores

# Ids of classes: of actions, or of each kind. Not `Collection[int]`: a mapping with ids for keys would be one.
ClassIds = Sequence[int] | Set[int] | np.ndarray | Mapping[str, Collection[int]]

KINDS = ("action", "verb", "noun")
GROUPS = ("many_shot", "tail", "unseen")
# Rank of a row without scores.
NEVER_A_HIT = np.iinfo(np.int64).max
# Rows whose float64 probabilities are held at a time: 31 MB for EPIC-Kitchens-100's 3,806 actions.
ROWS_AT_ONCE = 1024
# Added to a row's norm before dividing by it, as in the reference.
NORM_EPSILON = 1e-6


def anticipation_metrics(
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    label_space: LabelSpace | None = None,
    many_shot: ClassIds | None = None,
    tail: ClassIds | None = None,
    unseen_mask: np.ndarray | None = None,
    ks: Sequence[int] = (1, 5),
    verb_scores: np.ndarray | None = None,
    noun_scores: np.ndarray | None = None,
    dropped_labels: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns top-k accuracies and class-mean top-k recalls in percent, by name.

    Args:
        scores (`np.ndarray` of shape `(N, A)`): Scores of the actions; higher is likelier. They must be logits for the
            metrics of verbs and nouns, which are computed from their softmax.
        labels (`np.ndarray` of shape `(N,)`): Action ids.
        label_space (`LabelSpace`, *optional*): With `action_to_verb_noun`, adds the metrics of verbs and nouns.
        many_shot, tail (collection of `int`, or `dict` of kind to such, *optional*): Class ids of a group; those of
            actions, or `{"action": ids, "verb": ids, "noun": ids}` or part of it. Adds the metrics over the rows whose
            label is in the group.
        unseen_mask (`np.ndarray` of bool, `(N,)`, *optional*): Rows of unseen participants; adds metrics over them.
        ks (`Sequence[int]`, *optional*, defaults to `(1, 5)`): The k of top-k.
        verb_scores, noun_scores (`np.ndarray` of shape `(N, V)` and `(N, number of nouns)`, *optional*): Used instead
            of the marginal probabilities: scores of a model's own verb and noun heads, or late-fused probabilities.
        dropped_labels (`np.ndarray` of shape `(M,)`, *optional*): Action ids of rows that the protocol dropped because
            nothing can be observed before them. Each counts as an error, as in RULSTM's EPIC-Kitchens-100 numbers
            (RULSTM/main.py:274-286). Left out by default, as in AVT's. `unseen_mask` then has shape `(N + M,)`, dropped
            rows last.

    Returns:
        `dict[str, float]`: `{kind}_top{k}_accuracy{group}` and `{kind}_class_mean_top{k}_recall{group}`; `kind` is
        `action`, `verb` or `noun`, and `group` is empty, `_many_shot`, `_tail` or `_unseen`. NaN for a group that no
        row belongs to.

    Raises:
        ValueError: If shapes do not match, a score is not finite, a label or id is out of range (including `-100`, an
            unknown label: leave such rows out), or verbs or nouns are requested without a label space that has them.
    """
    scores, labels = check_scores(scores, labels)
    dropped = check_labels("dropped_labels", () if dropped_labels is None else dropped_labels, scores.shape[1])
    if not ks or min(ks) < 1:
        raise ValueError(f"ks is {tuple(ks)}: give at least one positive number.")
    unseen = _check_mask(unseen_mask, len(labels) + len(dropped))
    scores_by_kind = _scores_by_kind(scores, label_space, verb_scores, noun_scores)
    given = {"many_shot": many_shot, "tail": tail}
    class_groups = {name: _ids_by_kind(name, ids, scores_by_kind) for name, ids in given.items()}
    metrics = {}
    for kind, kind_scores in scores_by_kind.items():
        kept = labels_of_kind(labels, kind, label_space)
        kind_labels = np.concatenate([kept, labels_of_kind(dropped, kind, label_space)])
        ranks = np.concatenate([label_ranks(kind_scores, kept), np.full(len(dropped), NEVER_A_HIT)])
        groups = {f"_{name}": np.isin(kind_labels, ids[kind]) for name, ids in class_groups.items() if kind in ids}
        if unseen is not None:
            groups["_unseen"] = unseen
        for suffix, rows in {"": slice(None), **groups}.items():
            metrics |= _metrics_of_rows(kind, suffix, ranks[rows], kind_labels[rows], ks)
    return metrics


def label_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many other classes score at least as high as each row's label, int64 `(N,)`.

    A row is a top-k hit if its rank is below k. Ties count against the label.

    Args:
        scores (`np.ndarray` of shape `(N, A)`): Scores of the classes.
        labels (`np.ndarray` of shape `(N,)`): Class ids.
    """
    scores, labels = check_scores(scores, labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    # `>=` also counts the label itself, hence - 1, and makes ties count against it.
    return np.count_nonzero(scores >= own, axis=1) - 1


def labels_of_kind(labels: np.ndarray, kind: str, label_space: LabelSpace | None) -> np.ndarray:
    """Returns the ids of a kind (`"action"`, `"verb"` or `"noun"`), int64 `(N,)`, from action ids."""
    if kind == "action":
        return labels
    return verb_noun_ids(label_space)[labels, KINDS.index(kind) - 1]


def verb_noun_ids(label_space: LabelSpace | None) -> np.ndarray:
    """Returns the verb and noun id of each action, int64 `(A, 2)`; raises `ValueError` if the label space has none."""
    if label_space is None or label_space.verb_noun_ids is None:
        raise ValueError("label_space has no action_to_verb_noun: give one with each action's verb and noun.")
    return label_space.verb_noun_ids


def marginal_scores(scores: np.ndarray, label_space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities of verbs `(N, V)` and of nouns `(N, number of nouns)`, float64: summed over their actions.

    Args:
        scores (`np.ndarray` of shape `(N, A)`): Logits of the actions.
        label_space (`LabelSpace`): A label space with `action_to_verb_noun`.
    """
    pairs = verb_noun_ids(label_space)
    scores = check_matrix("scores", scores, len(label_space.actions))
    verbs = np.zeros((len(scores), len(label_space.verbs)))
    nouns = np.zeros((len(scores), len(label_space.nouns)))
    for start in range(0, len(scores), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        probabilities = softmax(scores[rows])
        for marginal, ids in ((verbs, pairs[:, 0]), (nouns, pairs[:, 1])):
            # `reduceat` sums runs of columns, so the columns are sorted by verb or noun; ids without an action stay 0.
            order = np.argsort(ids, kind="stable")
            present, first = np.unique(ids[order], return_index=True)
            marginal[rows, present] = np.add.reduceat(probabilities[:, order], first, axis=1)
    return verbs, nouns


def softmax(scores: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis, float64."""
    return scipy.special.softmax(np.asarray(scores, dtype=np.float64), axis=-1)


def many_shot_actions(
    label_space: LabelSpace,
    many_shot_verbs: Collection[int],
    many_shot_nouns: Collection[int],
    *,
    rule: str = "and",
) -> list[int]:
    """Returns the ids of the actions whose verb and noun are in the lists, ascending.

    EPIC-Kitchens-100's tail actions follow from its tail verbs and nouns with `rule="or"`.

    Args:
        label_space (`LabelSpace`): A label space with `action_to_verb_noun`.
        many_shot_verbs, many_shot_nouns (collection of `int`): Ids of the many-shot verbs and nouns.
        rule (`str`, *optional*, defaults to `"and"`): `"and"`: verb and noun both are many-shot, as in
            EPIC-Kitchens-55's own list (819 of 2,513 actions). `"or"`: either is, as in RULSTM and AVT (2,265 actions;
            RULSTM/main.py, get_many_shot). Results of the two rules are not comparable.
    """
    if rule not in ("and", "or"):
        raise ValueError(f"rule is '{rule}': give 'and' or 'or'.")
    pairs = verb_noun_ids(label_space)
    verb_in = np.isin(pairs[:, 0], check_ids("many_shot_verbs", many_shot_verbs, len(label_space.verbs)))
    noun_in = np.isin(pairs[:, 1], check_ids("many_shot_nouns", many_shot_nouns, len(label_space.nouns)))
    return np.flatnonzero(verb_in & noun_in if rule == "and" else verb_in | noun_in).tolist()


def late_fuse(
    list_of_scores: Sequence[np.ndarray], weights: Sequence[float] | None = None, *, norm: float | None = None
) -> np.ndarray:
    """Returns the weighted sum of several models' scores, float64 `(N, A)`.

    Args:
        list_of_scores (`Sequence[np.ndarray]`): Scores `(N, A)` of each model, rows in the same order.
        weights (`Sequence[float]`, *optional*): One weight per model. Default: 1 each.
        norm (`float`, *optional*): The p of a p-norm by which each row is divided first (plus 1e-6). Default: no
            normalization.
    """
    if not len(list_of_scores):
        raise ValueError("list_of_scores is empty: give the scores of at least one model.")
    arrays = [check_matrix("list_of_scores", scores) for scores in list_of_scores]
    if len({scores.shape for scores in arrays}) > 1:
        raise ValueError(f"list_of_scores has shapes {[scores.shape for scores in arrays]}: give equal shapes.")
    weights = [1.0] * len(arrays) if weights is None else list(weights)
    if len(weights) != len(arrays):
        raise ValueError(f"weights has {len(weights)} numbers for {len(arrays)} models: give one per model.")
    fused = np.zeros(arrays[0].shape)
    for weight, scores in zip(weights, arrays, strict=True):
        scores = scores.astype(np.float64)
        if norm is not None:
            scores /= np.linalg.norm(scores, ord=norm, axis=1, keepdims=True) + NORM_EPSILON
        fused += weight * scores
    return fused


def late_fuse_kinds(
    list_of_scores: Sequence[np.ndarray],
    weights: Sequence[float] | None = None,
    *,
    label_space: LabelSpace | None = None,
) -> dict[str, np.ndarray]:
    """Returns late-fused `scores`, and if the label space has verbs and nouns, `verb_scores` and `noun_scores`.

    Logits of actions are summed, and so are marginal probabilities of verbs and of nouns; the keys are arguments of
    `anticipation_metrics`. One model without weights is returned unchanged.
    """
    if len(list_of_scores) == 1 and weights is None:
        return {"scores": np.asarray(list_of_scores[0])}
    fused = {"scores": late_fuse(list_of_scores, weights)}
    if label_space is not None and label_space.action_to_verb_noun is not None:
        verbs, nouns = zip(*(marginal_scores(scores, label_space) for scores in list_of_scores), strict=True)
        fused |= {"verb_scores": late_fuse(verbs, weights), "noun_scores": late_fuse(nouns, weights)}
    return fused


def per_class_table(
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    ks: Sequence[int] = (1, 5),
    dropped_labels: np.ndarray | Sequence[int] | None = None,
) -> list[dict]:
    """Returns one row per class that occurs among the labels, by id: `class`, `name`, `count`, and `top{k}_recall`.

    Args:
        scores (`np.ndarray` of shape `(N, A)`): Scores of the classes: of actions, or `marginal_scores` of verbs or
            nouns.
        labels (`np.ndarray` of shape `(N,)`): Class ids, of the same kind.
        names (`Sequence[str]`, *optional*): Name of each class, such as `label_space.actions`; the id by default.
        ks (`Sequence[int]`, *optional*, defaults to `(1, 5)`): The k of top-k. Recalls are in percent.
        dropped_labels (`np.ndarray` of shape `(M,)`, *optional*): Class ids of rows without scores, which count as
            errors; see `anticipation_metrics`, whose class-mean recalls are the means of these recalls.
    """
    scores, labels = check_scores(scores, labels)
    dropped = check_labels("dropped_labels", () if dropped_labels is None else dropped_labels, scores.shape[1])
    if names is not None and len(names) != scores.shape[1]:
        raise ValueError(f"names has {len(names)} entries for {scores.shape[1]} classes: give one a class.")
    ranks = np.concatenate([label_ranks(scores, labels), np.full(len(dropped), NEVER_A_HIT)])
    labels = np.concatenate([labels, dropped])
    table = []
    for class_id in np.unique(labels).tolist():
        own = ranks[labels == class_id]
        row = {"class": class_id, "name": str(class_id) if names is None else names[class_id], "count": len(own)}
        table.append(row | {f"top{k}_recall": _row_mean_percent(own < k) for k in ks})
    return table


def metrics_table(metrics: Mapping[str, float]) -> str:
    """Returns the result of `anticipation_metrics` as a text table: one line per kind and group, two decimals."""
    lines = {}
    for name, value in metrics.items():
        group = next((group for group in GROUPS if name.endswith(f"_{group}")), "")
        kind, _, measure = name.removesuffix(f"_{group}").partition("_")
        lines.setdefault(f"{kind} {group}".strip(), {})[measure.replace("_", " ")] = value
    return pd.DataFrame(lines).T.to_string(float_format="%.2f", na_rep="-")


def all_class_mean_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns AVT's class-mean top-1 accuracy in percent: averaged over all classes, with 0 for those without a row.

    The natural average, over classes present, is `action_class_mean_top1_recall`. This one depends on how many classes
    the benchmark lists: fine for EGTEA Gaze+ (106 of 106 occur), far too low for EPIC-Kitchens-55 (927 of 2,513).
    Reference: notebooks/utils.py, mean_class_accuracy.
    """
    scores, labels = check_scores(scores, labels)
    hits = label_ranks(scores, labels) < 1
    return class_mean_percent(hits, labels) * len(np.unique(labels)) / scores.shape[1]


def decomposed_accuracy(scores: np.ndarray, labels: np.ndarray, label_space: LabelSpace, *, k: int) -> dict[str, float]:
    """Returns the distillation authors' top-k accuracy of `verb` and `noun` in percent.

    A row is a hit if any of its k best actions has the label's verb (noun). This is not a top-k of verbs, since the k
    actions may have from 1 to k of them. The natural measure, on marginal probabilities, is in `anticipation_metrics`;
    the two are not comparable. Ties between actions are broken by lower id.
    """
    scores, labels = check_scores(scores, labels)
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k is {k}: give a number from 1 to the {scores.shape[1]} actions.")
    pairs = verb_noun_ids(label_space)
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :k]
    hits = (pairs[best] == pairs[labels][:, None]).any(axis=1)  # (N, 2)
    return {"verb": _row_mean_percent(hits[:, 0]), "noun": _row_mean_percent(hits[:, 1])}


def _scores_by_kind(
    scores: np.ndarray, label_space: LabelSpace | None, verb_scores: np.ndarray | None, noun_scores: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Returns the scores of each kind that can be measured."""
    if label_space is not None and len(label_space.actions) != scores.shape[1]:
        raise ValueError(f"scores has {scores.shape[1]} columns for {len(label_space.actions)} actions in label_space.")
    if label_space is None or label_space.action_to_verb_noun is None:
        for kind, kind_scores in (("verb", verb_scores), ("noun", noun_scores)):
            if kind_scores is not None:
                raise ValueError(f"{kind}_scores needs a label_space with action_to_verb_noun, which labels {kind}s.")
        return {"action": scores}
    if verb_scores is None or noun_scores is None:
        verbs, nouns = marginal_scores(scores, label_space)
        verb_scores = verbs if verb_scores is None else verb_scores
        noun_scores = nouns if noun_scores is None else noun_scores
    checked = {
        "verb": check_matrix("verb_scores", verb_scores, len(label_space.verbs)),
        "noun": check_matrix("noun_scores", noun_scores, len(label_space.nouns)),
    }
    for kind, kind_scores in checked.items():
        if len(kind_scores) != len(scores):
            raise ValueError(
                f"{kind}_scores has {len(kind_scores)} rows and scores {len(scores)}: give equal numbers of rows."
            )
    return {"action": scores} | checked


def _ids_by_kind(name: str, ids: ClassIds | None, scores_by_kind: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the ids of a group by kind; those of actions if `ids` is a plain collection."""
    by_kind: Mapping[str, Collection[int]] = {} if ids is None else ids if isinstance(ids, Mapping) else {"action": ids}
    if not set(by_kind) <= set(KINDS):
        raise ValueError(f"{name} has keys {sorted(by_kind)}: give some of {KINDS}.")
    if not set(by_kind) <= set(scores_by_kind):
        raise ValueError(f"{name} has keys {sorted(by_kind)}: give a label_space with action_to_verb_noun too.")
    return {kind: check_ids(f"{name}['{kind}']", by_kind[kind], scores_by_kind[kind].shape[1]) for kind in by_kind}


def _check_mask(unseen_mask: np.ndarray | None, num_rows: int) -> np.ndarray | None:
    if unseen_mask is None:
        return None
    mask = np.asarray(unseen_mask)
    if mask.dtype != bool or mask.shape != (num_rows,):
        raise ValueError(
            f"unseen_mask has shape {mask.shape} and type {mask.dtype}: give bool of shape ({num_rows},), one a row, "
            "dropped rows last."
        )
    return mask


def _metrics_of_rows(kind: str, suffix: str, ranks: np.ndarray, labels: np.ndarray, ks: Sequence[int]) -> dict:
    """Returns the metrics of one kind over the rows of one group."""
    metrics = {}
    for k in ks:
        metrics[f"{kind}_top{k}_accuracy{suffix}"] = _row_mean_percent(ranks < k)
        metrics[f"{kind}_class_mean_top{k}_recall{suffix}"] = class_mean_percent(ranks < k, labels)
    return metrics


def _row_mean_percent(hits: np.ndarray) -> float:
    return 100 * float(hits.mean()) if len(hits) else float("nan")


def class_mean_percent(hits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over the classes present of the mean over each class's rows, in percent; NaN without rows.

    Args:
        hits (`np.ndarray` of shape `(N,)`): One number per row, such as whether it is right.
        labels (`np.ndarray` of shape `(N,)`): Class ids.
    """
    if not len(hits):
        return float("nan")
    _, index = np.unique(labels, return_inverse=True)
    return 100 * float((np.bincount(index, weights=hits) / np.bincount(index)).mean())
