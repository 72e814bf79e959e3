"""The anticipation curve: metrics of the same actions at increasing anticipation times (RULSTM's figure)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .anticipation import anticipation_metrics
from .checks import check_scores


def anticipation_curve(
    scores_by_tau: Mapping[float, np.ndarray], labels: np.ndarray, **options: Any
) -> dict[float, dict[str, float]]:
    """Returns `anticipation_metrics` at each tau_a, from the largest to the smallest.

    RULSTM's curve (Furnari and Farinella, ICCV 2019) has tau_a = 2.0, 1.75, ..., 0.25 s. All points use the same rows,
    so that the curve shows only the effect of the gap: if a large gap leaves nothing to observe before an action, leave
    that action out at all tau_a. `ScoreTable.aligned_to` brings score tables into the same order.

    Args:
        scores_by_tau (mapping of `float` to `np.ndarray` of shape `(N, A)`): Scores of the actions by tau_a in seconds,
            rows in the same order.
        labels (`np.ndarray` of shape `(N,)`): Action ids of these rows.
        **options: Those of `anticipation_metrics`, such as `label_space` and `ks`; the same at each tau_a.

    Raises:
        ValueError: If there is no tau_a, a tau_a is below 0, the numbers of rows or classes differ between them, or
            `anticipation_metrics` refuses its arguments.
    """
    if not scores_by_tau:
        raise ValueError("scores_by_tau is empty: give the scores at one tau_a at least.")
    shapes = {}
    for tau_a, scores in scores_by_tau.items():
        if not (tau_a >= 0 and np.isfinite(tau_a)):
            raise ValueError(f"scores_by_tau has a tau_a of {tau_a}: give seconds from 0.")
        shapes[tau_a] = check_scores(scores, labels)[0].shape
    if len(set(shapes.values())) > 1:
        raise ValueError(f"scores_by_tau has shapes {shapes}: give the same rows and classes at each tau_a.")
    return {
        tau_a: anticipation_metrics(scores_by_tau[tau_a], labels, **options)
        for tau_a in sorted(scores_by_tau, reverse=True)
    }
