"""Metrics of action anticipation: pure functions of scores, labels, answers and times, in numpy and scipy.

One module per protocol: `anticipation` (the next action), `sequences` (the next Z actions), `dense` (frames to come),
`curve` (over the anticipation time), `online` (per frame), `streaming` (answers that are late), `calibration` (how far
probabilities can be trusted) and `abstention` (when not to answer).
"""

from .abstention import RiskCoverage, conformal_threshold, risk_coverage_curve
from .anticipation import (
    GROUPS,
    KINDS,
    NEVER_A_HIT,
    NORM_EPSILON,
    ROWS_AT_ONCE,
    ClassIds,
    all_class_mean_accuracy,
    anticipation_metrics,
    class_mean_percent,
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
from .curve import anticipation_curve
from .dense import frame_labels, mean_over_classes
from .online import mean_average_precision, per_frame_average_precision
from .sequences import area_under_edit_distance, edit_distance_at, edit_distances, row_edit_distances
from .streaming import ready_answers, streaming_indices, streaming_metrics

__all__ = [
    "GROUPS",
    "KINDS",
    "NEVER_A_HIT",
    "NORM_EPSILON",
    "ROWS_AT_ONCE",
    "ClassIds",
    "RiskCoverage",
    "all_class_mean_accuracy",
    "anticipation_curve",
    "anticipation_metrics",
    "area_under_edit_distance",
    "brier_score",
    "calibration_metrics",
    "class_mean_percent",
    "conformal_threshold",
    "decomposed_accuracy",
    "edit_distance_at",
    "edit_distances",
    "expected_calibration_error",
    "fit_temperature",
    "frame_labels",
    "label_ranks",
    "labels_of_kind",
    "late_fuse",
    "late_fuse_kinds",
    "log_loss",
    "many_shot_actions",
    "marginal_scores",
    "mean_average_precision",
    "mean_over_classes",
    "metrics_table",
    "per_class_table",
    "per_frame_average_precision",
    "ready_answers",
    "risk_coverage_curve",
    "row_brier_scores",
    "row_calibration_gaps",
    "row_edit_distances",
    "row_log_losses",
    "softmax",
    "streaming_indices",
    "streaming_metrics",
    "verb_noun_ids",
]
