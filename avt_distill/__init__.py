"""Action anticipation in video: teachers that read text, students that watch, and what lies between them.

The names below are imported when they are first used: `from avt_distill import LabelSpace` does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as in _NAMES, for type checkers
    from .conversion import convert_avt_checkpoint as convert_avt_checkpoint
    from .data.builder import AnticipationBuilder as AnticipationBuilder
    from .data.collator import FeatureCollator as FeatureCollator
    from .data.collator import VideoCollator as VideoCollator
    from .data.labels import LabelSpace as LabelSpace
    from .data.loading import anticipation_builder as anticipation_builder
    from .data.loading import load_anticipation_dataset as load_anticipation_dataset
    from .evaluation.comparison import compare_tables as compare_tables
    from .evaluation.scores import ScoreTable as ScoreTable
    from .features.backbones import load_backbone as load_backbone
    from .features.stores import open_feature_store as open_feature_store
    from .features.stores import write_features as write_features
    from .losses import distillation_loss as distillation_loss
    from .metrics import anticipation_metrics as anticipation_metrics
    from .metrics import late_fuse as late_fuse
    from .student.arguments import DistillationArguments as DistillationArguments
    from .student.trainer import DistillationTrainer as DistillationTrainer
    from .student.trainer import SoftLabelCollator as SoftLabelCollator
    from .teacher.prediction import TeacherScorer as TeacherScorer
    from .teacher.soft_labels import SoftLabelTable as SoftLabelTable

_NAMES = {
    "conversion": ["convert_avt_checkpoint"],
    "data.builder": ["AnticipationBuilder"],
    "data.collator": ["FeatureCollator", "VideoCollator"],
    "data.labels": ["LabelSpace"],
    "data.loading": ["anticipation_builder", "load_anticipation_dataset"],
    "evaluation.comparison": ["compare_tables"],
    "evaluation.scores": ["ScoreTable"],
    "features.backbones": ["load_backbone"],
    "features.stores": ["open_feature_store", "write_features"],
    "losses": ["distillation_loss"],
    "metrics": ["anticipation_metrics", "late_fuse"],
    "student.arguments": ["DistillationArguments"],
    "student.trainer": ["DistillationTrainer", "SoftLabelCollator"],
    "teacher.prediction": ["TeacherScorer"],
    "teacher.soft_labels": ["SoftLabelTable"],
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
