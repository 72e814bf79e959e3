"""Checks of a model's inputs: frames or features, their mask, and labels."""

import torch

from .losses_avt import IGNORED_LABEL


def check_inputs(
    config,
    pixel_values_videos: torch.Tensor | None,
    video_features: torch.Tensor | None,
    frame_mask: torch.Tensor | None,
    num_future_steps: int,
):
    """Raises `ValueError` if arguments of `AVTForAnticipation.forward` do not fit the model or each other."""
    if video_features is None and pixel_values_videos is not None:
        _check_pixels(config, pixel_values_videos)
        batch_size, num_frames = pixel_values_videos.shape[0], pixel_values_videos.shape[-4]
        num_frames = num_frames if config.clip_num_frames is None else config.num_frames
    elif video_features is not None and pixel_values_videos is None:
        _check_features(config, video_features)
        batch_size, num_frames = video_features.shape[:2]
    else:
        given = "neither" if pixel_values_videos is None else "both"
        raise ValueError(f"Give either pixel_values_videos or video_features; got {given}.")
    if batch_size == 0:
        raise ValueError("The batch is empty, with 0 windows: give at least one.")
    check_steps(config, num_frames, num_future_steps)
    if frame_mask is not None and tuple(frame_mask.shape) != (batch_size, num_frames):
        raise ValueError(
            f"frame_mask has the shape {tuple(frame_mask.shape)}: give (B, T) = {(batch_size, num_frames)}."
        )
    if frame_mask is not None and _can_be_read(frame_mask) and not frame_mask[:, -1].all():
        raise ValueError("frame_mask hides a last frame: padding goes to the left, before the first real frame.")


def without_backbone(config, advice: str) -> str:
    """Returns the error message for frames or videos passed to a model without a backbone.

    Args:
        config (`AVTConfig`): The model's configuration.
        advice (`str`): What to pass instead.
    """
    return (
        f"This model has no backbone (config.backbone_config is None): {advice}; or write a checkpoint that accepts "
        f"videos, with its encoder: avt-distill attach_encoder {config.name_or_path or 'CHECKPOINT'}."
    )


def _check_pixels(config, pixel_values_videos: torch.Tensor):
    if config.backbone_config is None:
        raise ValueError(without_backbone(config, "give video_features (B, T, D)"))
    if pixel_values_videos.ndim not in (5, 6) or pixel_values_videos.shape[-3] != 3:
        raise ValueError(
            f"pixel_values_videos has the shape {tuple(pixel_values_videos.shape)}: give (B, T, 3, H, W), "
            "or (B, V, T, 3, H, W) for V views whose outputs are averaged."
        )
    if config.clip_num_frames is not None:
        given, num_frames = pixel_values_videos.shape[-4], len(config.clip_window.offsets_s)
        if given != num_frames:
            raise ValueError(
                f"pixel_values_videos has {given} frames: the clips at this model's {config.num_frames} moments "
                f"consist of {num_frames}, as its AVTVideoProcessor samples them."
            )


def _check_features(config, video_features: torch.Tensor):
    width, shape = config.feature_dim, tuple(video_features.shape)
    if config.head_type == "probe" and (len(shape) != 4 or shape[-1] != width):
        raise ValueError(
            f"video_features has the shape {shape}: a probe attends to the tokens of each moment, (B, T, S, {width}), "
            "and one feature a moment has none; give frames, or train a model with head_type='avt' on features."
        )
    if config.head_type == "avt" and (len(shape) != 3 or shape[-1] != width):
        raise ValueError(f"video_features has the shape {shape}: this model needs (B, T, {width}).")


def check_steps(config, num_frames: int, num_future_steps: int):
    """Raises `ValueError` if a model cannot roll out so many steps after so many frames."""
    if num_future_steps < 1:
        raise ValueError(f"num_future_steps is {num_future_steps}: give 1 or more.")
    if config.head_type == "probe":
        if num_future_steps > 1:
            raise ValueError(f"num_future_steps is {num_future_steps}, but a probe does not roll out: give 1.")
        if num_frames != config.num_frames:
            raise ValueError(f"There are {num_frames} moments, but this model's probe is for {config.num_frames}.")
        return
    num_positions = config.head_num_positions
    if num_frames < 1 or num_frames + num_future_steps - 1 > num_positions:
        raise ValueError(
            f"{num_frames} frames and {num_future_steps} future steps do not fit: the head has {num_positions} "
            "positions (head_num_positions) and needs one for each frame and for each step after the first."
        )


def check_labels(name: str, labels: torch.Tensor, scores: torch.Tensor):
    """Raises `ValueError` unless labels `(...)` are classes of scores `(..., A)`, or -100 where unlabeled."""
    if labels.shape != scores.shape[:-1]:
        raise ValueError(f"{name} has the shape {tuple(labels.shape)}: give {tuple(scores.shape[:-1])}.")
    if not _can_be_read(labels):
        return  # reading values would stall the device; cross_entropy raises there instead
    num_classes = scores.shape[-1]
    wrong = labels[(labels != IGNORED_LABEL) & ((labels < 0) | (labels >= num_classes))]
    if len(wrong):
        raise ValueError(
            f"{name} holds {wrong[0].item()}: give class ids 0..{num_classes - 1}, or {IGNORED_LABEL} where unlabeled."
        )


def _can_be_read(values: torch.Tensor) -> bool:
    """Whether reading values is cheap: it would stall an accelerator, and break a graph that is being compiled."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()
