"""Configurations of frame encoders: Hugging Face image models, and video models."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING, AutoConfig, PretrainedConfig

from .rules_avt import shown

KINDS = "give the name of a Hugging Face image or video model, such as 'vit' or 'vjepa2'"


def checked_backbone(name: str, value: Any) -> PretrainedConfig | None:
    """Returns the configuration of an image or video model, given as one or as a dict.

    Raises:
        ValueError: If `value` is not such a configuration.
    """
    if value is None or isinstance(value, PretrainedConfig):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{name} is {shown(value)}: give the configuration of a Hugging Face image model or video model, or a dict."
        )
    arguments = dict(value)
    model_type = arguments.pop("model_type", None)
    if model_type is None:
        raise ValueError(f"{name} has no 'model_type': {KINDS}.")
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"{name} has the model_type {shown(model_type)}, which transformers does not support: {KINDS}."
        )
    try:
        return AutoConfig.for_model(model_type, **arguments)
    except StrictDataclassError as error:  # it is no `ValueError`
        cause = str(error.__cause__).rstrip(".")
        raise ValueError(f"{name} is no configuration of '{model_type}': {cause}.") from error


def backbone_width(backbone_config: PretrainedConfig) -> int:
    """Returns the width of a token, as Hugging Face configurations of image and video models name it."""
    if getattr(backbone_config, "hidden_size", None) is not None:
        return backbone_config.hidden_size
    if getattr(backbone_config, "hidden_sizes", None):
        return backbone_config.hidden_sizes[-1]
    raise ValueError(
        f"The configuration of a '{backbone_config.model_type}' backbone does not state its width: pass it as "
        "feature_dim."
    )


def is_video_model(backbone_config: PretrainedConfig | None) -> bool:
    """Whether a backbone encodes clips rather than single frames."""
    return type(backbone_config) in MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING


def clip_length(backbone_config: PretrainedConfig) -> int:
    """Returns the number of frames that a video model was trained on, as Hugging Face configurations name it."""
    for name in ("frames_per_clip", "num_frames"):
        if getattr(backbone_config, name, None) is not None:
            return getattr(backbone_config, name)
    raise ValueError(
        f"The configuration of a '{backbone_config.model_type}' backbone names no number of frames: give it as "
        "clip_num_frames."
    )


def clip_problem(backbone_config: PretrainedConfig, num_frames: int) -> str | None:
    """Returns why a video model cannot encode clips of this length, as the end of a sentence; `None` if it can."""
    kind, fixed = backbone_config.model_type, getattr(backbone_config, "num_frames", num_frames)
    if fixed != num_frames:  # learned positions
        return f"this '{kind}' sees clips of {fixed} (num_frames of its configuration)"
    tubelet = getattr(backbone_config, "tubelet_size", 1)
    tubelet = tubelet if isinstance(tubelet, int) else tubelet[0]
    if num_frames % tubelet:  # the last frames, which are the newest, would be left out
        return f"this '{kind}' joins {tubelet} frames into one, so give a multiple of {tubelet}"
    return None


def has_predictor(backbone_config: Any) -> bool:
    """Whether a backbone has a predictor of the tokens of future moments, as V-JEPA 2 has."""
    return getattr(backbone_config, "model_type", None) == "vjepa2"
