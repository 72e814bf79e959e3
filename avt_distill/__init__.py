"""Action anticipation in video: text teachers, video students, and the data, training and metrics for both.

The names below are imported on first use: `from avt_distill import LabelSpace` does not import torch. Type
checkers read them in `__init__.pyi`.
"""

import importlib

NAMES = {
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
    "reader.asking": ["AskedTransitions", "MixedTransitions"],
    "student.arguments": ["DistillationArguments"],
    "student.trainer": ["DistillationTrainer", "SoftLabelCollator"],
    "teacher.prediction": ["TeacherScorer"],
    "teacher.soft_labels": ["SoftLabelTable"],
}
HOMES = {name: module for module, names in NAMES.items() for name in names}
__all__ = list(HOMES)


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
