"""Metrics of action anticipation: pure functions of scores, labels, answers and times, in numpy and scipy.

One file a protocol: `anticipation` (the next action), `sequences` (the next Z actions), `dense` (frames to come),
`curve` (over the anticipation time), `online` (per frame), `streaming` (answers that are late), `calibration` (whether
probabilities mean what they state) and `abstention` (when to say nothing).
"""

from .anticipation import (
    GROUPS,
    KINDS,
    NEVER_A_HIT,
    NORM_EPSILON,
    ROWS_AT_ONCE,
    ClassIds,
    all_class_mean_accuracy,
    anticipation_metrics,
    decomposed_accuracy,
    label_ranks,
    labels_of_kind,
    late_fuse,
    late_fuse_kinds,
    many_shot_actions,
    marginal_scores,
    metrics_table,
    per_class_table,
    softmax,
    verb_noun_ids,
)
from .calibration import (
    brier_score,
    calibration_metrics,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    row_brier_scores,
    row_calibration_gaps,
    row_log_losses,
)

__all__ = [
    "GROUPS",
    "KINDS",
    "NEVER_A_HIT",
    "NORM_EPSILON",
    "ROWS_AT_ONCE",
    "ClassIds",
    "all_class_mean_accuracy",
    "anticipation_metrics",
    "brier_score",
    "calibration_metrics",
    "decomposed_accuracy",
    "expected_calibration_error",
    "fit_temperature",
    "label_ranks",
    "labels_of_kind",
    "late_fuse",
    "late_fuse_kinds",
    "log_loss",
    "many_shot_actions",
    "marginal_scores",
    "metrics_table",
    "per_class_table",
    "row_brier_scores",
    "row_calibration_gaps",
    "row_log_losses",
    "softmax",
    "verb_noun_ids",
]
