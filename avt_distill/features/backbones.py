"""Loading pretrained vision models as AVT's frame encoder, with their own preprocessing."""

import json
import logging
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from modeling_avt.backbone_configuration_avt import has_predictor
from modeling_avt.configuration_avt import AVTConfig
from modeling_avt.encoders_avt import backbone_class, leave_out_predictor
from modeling_avt.modeling_avt import AVTModel
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..runs.checkpoints import load_whole

logger = logging.getLogger(__name__)

PROCESSOR_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
AVT_CROP_PX, AVT_SIZE_PX = 224, 248


def load_backbone(model_name_or_path: str | Path, *, use_predictor: bool = False, **kwargs) -> PreTrainedModel:
    """Loads a pretrained vision model without the pooler that some models add, which AVT does not use.

    `model.avt.backbone = load_backbone("facebook/dinov2-base")` initializes AVT's encoder with its weights.

    Args:
        model_name_or_path (`str` or `Path`): A model on the Hub, or a folder. For models that also read text (CLIP,
            SigLIP) the vision model is returned, for an AVT checkpoint its backbone.
        use_predictor (`bool`, *optional*, defaults to `False`): Whether to keep V-JEPA 2's predictor, in which case
            none of its weights may be missing.
        kwargs: Passed to `from_pretrained`, such as `dtype`, `attn_implementation` and `revision`.

    Returns:
        `PreTrainedModel`: The vision model.

    Raises:
        ValueError: If there is no such model, if it is not a vision model, or if the checkpoint lacks weights, which
            would be random, or holds more layers than its configuration states.
    """
    revision = kwargs.get("revision", "main")
    config = load_backbone_config(model_name_or_path, revision)
    if use_predictor and not has_predictor(config):
        raise ValueError(f"'{model_name_or_path}' has no predictor: only V-JEPA 2 has one.")
    if _is_avt(model_name_or_path, revision):
        backbone: Any = AVTModel.from_pretrained(model_name_or_path, **kwargs).backbone
        if use_predictor and backbone.predictor is None:
            raise ValueError(f"'{model_name_or_path}' was saved without V-JEPA 2's predictor: give V-JEPA 2 itself.")
    else:
        model_class, arguments = backbone_class(config)
        options = {"config": config, **arguments, **kwargs}
        unused = () if use_predictor else ("predictor.",)
        backbone = load_whole(model_class.from_pretrained, model_name_or_path, new=unused, left_out=None, **options)
    if not use_predictor:
        leave_out_predictor(backbone)
    return backbone


def load_backbone_config(model_name_or_path: str | Path, revision: str = "main") -> PreTrainedConfig:
    """Returns the configuration of the vision model that `load_backbone` loads; `revision`: its revision on the Hub.

    Raises:
        ValueError: If there is no such model, or it is not a vision model.
    """
    if _is_avt(model_name_or_path, revision):
        config: Any = AVTConfig.from_pretrained(model_name_or_path, revision=revision).backbone_config
        if config is None:
            raise ValueError(
                f"'{model_name_or_path}' is an AVT checkpoint that reads features and has no backbone: give one with "
                "a backbone, or a vision model."
            )
        return config
    try:
        # Only models that are built into transformers.
        config = AutoConfig.from_pretrained(model_name_or_path, trust_remote_code=False, revision=revision)
    except ValueError as error:
        raise ValueError(
            f"The model '{model_name_or_path}' cannot be used ({str(error).splitlines()[0]}): give one that "
            "transformers has built in; a checkpoint's own code is never run."
        ) from error
    config = getattr(config, "vision_config", config)
    try:
        backbone_class(config)
    except ValueError as error:
        raise ValueError(f"'{model_name_or_path}' cannot be used: {error}") from error
    return config


def _is_avt(model_name_or_path: str | Path, revision: str) -> bool:
    """Whether a model is an AVT checkpoint.

    Raises:
        ValueError: If there is no such model.
    """
    try:
        fields, _ = PreTrainedConfig.get_config_dict(model_name_or_path, revision=revision)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Cannot read the model '{model_name_or_path}' ({str(error).splitlines()[0]}): give its name on the Hub, "
            "or a folder that save_pretrained wrote."
        ) from error
    if not isinstance(fields, dict):
        raise ValueError(
            f"The config.json of '{model_name_or_path}' holds a {type(fields).__name__} instead of an object: give the "
            "folder that save_pretrained wrote."
        )
    return fields.get("model_type") == AVTConfig.model_type


def load_backbone_processor(model_name_or_path: str | Path, backbone_config: PreTrainedConfig) -> AVTVideoProcessor:
    """Returns a processor with the preprocessing that a pretrained vision model expects.

    Size, crop, mean and standard deviation are read from the model's `preprocessor_config.json`. The aspect ratio is
    kept: if an image processor would distort frames to a square, the center is cropped instead. Resizing is bilinear
    with antialiasing. A model without that file gets AVT's own preprocessing at its image size, with a warning, since
    features are worse under a mean and size other than in training.

    Args:
        model_name_or_path (`str` or `Path`): A model on the Hub, or a folder.
        backbone_config (`PreTrainedConfig`): The model's configuration.

    Raises:
        ValueError: If `AVTVideoProcessor` cannot reproduce the preprocessing.
    """
    for file_name in PROCESSOR_FILES:
        path = cached_file(model_name_or_path, file_name, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
            if str(fields.get("auto_map", {}).get("AutoVideoProcessor")).endswith(f".{AVTVideoProcessor.__name__}"):
                return AVTVideoProcessor.from_pretrained(model_name_or_path)
            return _like_image_processor(fields, path)
    crop = getattr(backbone_config, "crop_size", None) or getattr(backbone_config, "image_size", AVT_CROP_PX)
    crop = crop if isinstance(crop, int) else max(crop)
    size = crop * AVT_SIZE_PX // AVT_CROP_PX
    processor = AVTVideoProcessor(size=size, crop_size=crop, train_size=(size, size))
    logger.warning(
        "%s has no %s: frames are cut to %d px and normalized with mean %s and deviation %s. If the model was trained "
        "otherwise, save its preprocessor_config.json in the same folder.",
        model_name_or_path,
        " or ".join(PROCESSOR_FILES),
        crop,
        processor.image_mean,
        processor.image_std,
    )
    return processor


def _like_image_processor(fields: dict, path: str) -> AVTVideoProcessor:
    """Returns an `AVTVideoProcessor` with the settings of a Hugging Face image or video processor."""
    factor = fields.get("rescale_factor") or 1 / 255
    if abs(factor * 255 - 1) > 1e-3 or fields.get("do_rescale") is False or fields.get("do_flip_channel_order"):
        raise ValueError(
            f"{path} asks for pixels other than RGB from 0 to 1 before normalization (rescale_factor={factor}, "
            f"do_rescale={fields.get('do_rescale')}, do_flip_channel_order={fields.get('do_flip_channel_order')}): "
            "AVTVideoProcessor cannot do that."
        )
    short_side, crop = _sizes(fields, path)
    mean, std = fields.get("image_mean"), fields.get("image_std")
    if fields.get("do_normalize") is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if mean is None or std is None:
        raise ValueError(f"{path} has no image_mean and image_std: add them.")
    return AVTVideoProcessor(
        size=short_side, crop_size=crop, train_size=(short_side, short_side), image_mean=mean, image_std=std
    )


def _sizes(fields: dict, path: str) -> tuple[int, int | dict[str, int]]:
    """Returns the short side to resize to, and the crop, in pixels."""
    size = fields.get("size")
    size = {"shortest_edge": size} if isinstance(size, int) else size or {}
    if "shortest_edge" in size:
        crop = short_side = size["shortest_edge"]
        if fields.get("crop_pct") and short_side < 384:  # ConvNeXt's convention: the size is that of the crop
            short_side = int(short_side / fields["crop_pct"])
    elif "height" in size and "width" in size:
        short_side, crop = max(size["height"], size["width"]), size
    else:
        raise ValueError(f"{path} has the size {fields.get('size')}: give shortest_edge, or height and width.")
    if fields.get("crop_size") is not None and fields.get("do_center_crop") is not False:
        crop = fields["crop_size"]
    return short_side, crop
