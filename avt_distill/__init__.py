"""Action anticipation in video: teachers that read text, students that watch, and what lies between them.

The names below are imported when they are first used: `from avt_distill import LabelSpace` does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conversion import convert_avt_checkpoint
    from .data.builder import AnticipationBuilder
    from .data.collator import FeatureCollator, VideoCollator
    from .data.labels import LabelSpace
    from .data.loading import anticipation_builder, load_anticipation_dataset
    from .evaluation.comparison import compare_tables
    from .evaluation.scores import ScoreTable
    from .features.backbones import load_backbone
    from .features.stores import open_feature_store, write_features
    from .losses import distillation_loss
    from .metrics import anticipation_metrics, late_fuse
    from .student.arguments import DistillationArguments
    from .student.trainer import DistillationTrainer, SoftLabelCollator
    from .teacher.prediction import TeacherScorer
    from .teacher.soft_labels import SoftLabelTable

_HOMES = {
    "AnticipationBuilder": "data.builder",
    "DistillationArguments": "student.arguments",
    "DistillationTrainer": "student.trainer",
    "FeatureCollator": "data.collator",
    "LabelSpace": "data.labels",
    "ScoreTable": "evaluation.scores",
    "SoftLabelCollator": "student.trainer",
    "SoftLabelTable": "teacher.soft_labels",
    "TeacherScorer": "teacher.prediction",
    "VideoCollator": "data.collator",
    "anticipation_builder": "data.loading",
    "anticipation_metrics": "metrics",
    "compare_tables": "evaluation.comparison",
    "convert_avt_checkpoint": "conversion",
    "distillation_loss": "losses",
    "late_fuse": "metrics",
    "load_anticipation_dataset": "data.loading",
    "load_backbone": "features.backbones",
    "open_feature_store": "features.stores",
    "write_features": "features.stores",
}

__all__ = [
    "AnticipationBuilder",
    "DistillationArguments",
    "DistillationTrainer",
    "FeatureCollator",
    "LabelSpace",
    "ScoreTable",
    "SoftLabelCollator",
    "SoftLabelTable",
    "TeacherScorer",
    "VideoCollator",
    "anticipation_builder",
    "anticipation_metrics",
    "compare_tables",
    "convert_avt_checkpoint",
    "distillation_loss",
    "late_fuse",
    "load_anticipation_dataset",
    "load_backbone",
    "open_feature_store",
    "write_features",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
