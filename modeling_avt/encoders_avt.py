"""Encoding frames or clips with a Hugging Face image or video model: its tokens, or one feature for each moment."""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING, PreTrainedModel

from .backbone_configuration_avt import has_predictor
from .numbers_avt import compute_dtype
from .temporal_avt import FRAMES_AT_ONCE

CLASS_TOKENS = ("cls_token", "class_embedding")  # how the names of their parameters end


def backbone_class(backbone_config) -> tuple[type[PreTrainedModel], dict]:
    """Returns the model class for a configuration, and the arguments that leave out its pooler if it has such
    arguments.

    Raises:
        ValueError: If the model does not encode images or clips, or needs other inputs in addition to them.
    """
    kind = backbone_config.model_type
    if type(backbone_config) not in MODEL_MAPPING:
        raise ValueError(f"'{kind}' has no vision model of its own: give an image or a video model.")
    found: Any = MODEL_MAPPING[type(backbone_config)]  # a class, or several, whatever its annotation says
    model_class = found[0] if isinstance(found, (list, tuple)) else found
    inputs = _inputs(model_class)
    if inputs and not inputs[0].name.startswith("pixel_values"):
        raise ValueError(f"'{kind}' reads {inputs[0].name}: give an image or a video model.")
    if needed := [given.name for given in inputs[1:] if given.default is given.empty]:
        raise ValueError(
            f"'{kind}' cannot encode frames alone, as it also needs {' and '.join(needed)}: give another image model "
            "or a video model."
        )
    leave_out_pooler = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    return model_class, {"add_pooling_layer": False} if leave_out_pooler else {}


def _inputs(model_class: type[PreTrainedModel]) -> list[inspect.Parameter]:
    """Returns the named arguments of a model's `forward`."""
    _, *arguments = inspect.signature(model_class.forward).parameters.values()
    return [given for given in arguments if given.kind not in (given.VAR_POSITIONAL, given.VAR_KEYWORD)]


def leave_out_predictor(backbone: Any):
    """Removes V-JEPA 2's predictor, whose weights would be saved and never trained; others have none."""
    if has_predictor(backbone.config):
        backbone.predictor = None


def has_class_token(backbone: nn.Module) -> bool:
    """Whether the first token of a backbone's output represents the whole, if that output is a sequence of tokens."""
    return any(name.endswith(CLASS_TOKENS) for name, _ in backbone.named_parameters())


def is_frozen(backbone: nn.Module) -> bool:
    """Whether none of a backbone's parameters is trained."""
    parameters = list(backbone.parameters())  # none at all where a wrapper holds them, which says nothing
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def encode(backbone: Any, pixel_values: torch.Tensor, config: Any, has_class_token: bool) -> torch.Tensor:
    """Returns a backbone's encoding of frames or clips: one feature for each, or its tokens for a probe.

    A feature is the backbone's own pooled output if it has one, else its class token, else the mean over tokens. The
    pooler that some models add on request (ViT's tanh layer) is left out, as in the AVT reference. A map `(N, D, h, w)`
    is a token for each cell and has no class token (CvT returns its own separately). A masked autoencoder (ViT-MAE)
    encodes all patches. With `config.use_predictor`, V-JEPA 2's predicted tokens come after its own: their mean is the
    later half of the feature.

    Args:
        backbone (`PreTrainedModel`): The model of `config.backbone_config`.
        pixel_values (`torch.Tensor` of shape `(N, 3, H, W)`, or `(N, L, 3, H, W)` for video models): Normalized frames.
        config (`AVTConfig`): The model's configuration: head type, predictor and clips.
        has_class_token (`bool`): Whether the first token represents the whole: see the function `has_class_token`.

    Returns:
        `torch.Tensor` of shape `(N, D)`, or `(N, S, D)` of S tokens, of the type that the backbone computes in,
        whatever the frames' is.

    Raises:
        ValueError: If V-JEPA 2's positions do not match the size of the frames.
    """
    pixel_values = pixel_values.to(compute_dtype(backbone))
    of_vjepa = has_predictor(backbone.config)
    if of_vjepa:
        check_crop(backbone.config, *pixel_values.shape[-2:])
        # Not `VJEPA2Model.forward` (transformers 5.23): it predicts only positions inside the clip, not those after it.
        outputs = backbone.encoder(pixel_values_videos=pixel_values)
    else:
        _encode_all_patches(backbone)
        outputs = backbone(pixel_values)
    tokens, pooled = outputs.last_hidden_state, getattr(outputs, "pooler_output", None)
    is_map = tokens.ndim == 4
    if is_map:
        tokens = tokens.flatten(2).transpose(1, 2)  # (N, D, h, w) -> (N, h * w, D)
    predicted = _predicted(backbone, tokens, config) if config.use_predictor else None
    if config.head_type == "probe":
        return tokens if predicted is None else torch.cat([tokens, predicted], dim=1)
    if pooled is None:
        pooled = tokens[:, 0] if has_class_token and not is_map else tokens.mean(1)
    pooled = pooled.flatten(1)  # (N, D, 1, 1) -> (N, D)
    return pooled if predicted is None else torch.cat([pooled, predicted.mean(1)], dim=1)


def _encode_all_patches(backbone: Any):
    """Makes a masked autoencoder encode all patches in order. ViT-MAE omits 75 % of them at random, in evaluation too.

    Masking is replaced in the model, not turned off in its configuration, so the configuration is saved as it was
    given. With a `mask_ratio` of 0, ViT-MAE would still shuffle the patches.
    """
    if getattr(backbone.config, "mask_ratio", None) is None:
        return
    for module in backbone.modules():
        # Hiera has a flag instead, and masks nothing unless it is set.
        if hasattr(module, "random_masking") and not hasattr(module, "is_mae"):
            module.random_masking = _all_patches


def _all_patches(sequence: torch.Tensor, noise: torch.Tensor | None = None):
    """Returns what ViT-MAE's `random_masking` returns if it masks nothing: patches `(N, S, D)`, mask and order `(N,
    S)`."""
    shape = sequence.shape[:2]
    return sequence, sequence.new_zeros(shape), torch.arange(shape[1], device=sequence.device).expand(shape)


def encode_clips(model, frames: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    """Returns the features of moments, of frames `(F, 3, H, W)` and clips `(N, L)`, `FRAMES_AT_ONCE` frames at a time,
    which bounds memory.

    Args:
        model (`AVTForAnticipation` or `AVTModel`): The model whose `encode_frames` is called.
        frames, clips (`torch.Tensor`): See `AVTForAnticipation.encode_clips`.
    """
    encoded = []
    for some in clips.split(max(FRAMES_AT_ONCE // clips.shape[1], 1)):
        pixel_values = frames[some.to(frames.device)].to(model.device)  # (n, L, 3, H, W)
        is_clip = model.config.clip_num_frames is not None
        encoded.append(model.encode_frames(pixel_values if is_clip else pixel_values[:, 0]))
    return torch.cat(encoded)


def _predicted(backbone: Any, tokens: torch.Tensor, config: Any) -> torch.Tensor:
    """Returns the tokens `(N, S', D)` that V-JEPA 2's predictor expects `tau_a` after its clips: those of one tubelet.

    Args:
        backbone (`PreTrainedModel`): A V-JEPA 2 with its predictor.
        tokens (`torch.Tensor` of shape `(N, S, D)`): Output of its encoder, the predictor's context.
        config (`AVTConfig`): Configuration with the horizon `tau_a` and the clips' frame rate.

    As in its EPIC-Kitchens-100 evaluation (evals/action_anticipation_frozen), the tubelet is `int(tau_a *
    clip_frame_rate / tubelet_size)` tubelets after the end of the clip.
    """
    of_model = backbone.config
    per_tubelet = (of_model.crop_size // of_model.patch_size) ** 2
    num_ahead = int(config.tau_a * config.clip_frame_rate / of_model.tubelet_size)
    num_clips, num_seen = tokens.shape[:2]
    observed = torch.arange(num_seen, device=tokens.device)
    ahead = num_seen + num_ahead * per_tubelet + torch.arange(per_tubelet, device=tokens.device)
    context, target = (positions.expand(num_clips, -1) for positions in (observed, ahead))
    return backbone.predictor(tokens, context_mask=[context], target_mask=[target]).last_hidden_state


def check_crop(backbone_config, height: int, width: int):
    """Raises `ValueError` if V-JEPA 2's positions do not match the size of the frames; other models raise themselves.

    V-JEPA 2 rotates any number of tokens without an error, but with the positions of another grid.
    """
    if has_predictor(backbone_config) and (height, width) != (backbone_config.crop_size,) * 2:
        crop = backbone_config.crop_size
        raise ValueError(
            f"The frames are {height} x {width} pixels, but this V-JEPA 2 has positions for {crop} x {crop}: set the "
            "video processor's crop_size to it."
        )
