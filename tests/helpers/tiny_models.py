"""Tiny random models and their processor."""

import torch
from transformers import CONFIG_MAPPING, ViTConfig

from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor

VERB_NOUN = {
    "label_types": ["action", "verb", "noun"],
    "verb_id2label": {0: "cut", 1: "mix"},
    "noun_id2label": {0: "egg", 1: "oil", 2: "flour"},
    "action_to_verb_noun": [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]],
}


def tiny_config(**overrides) -> AVTConfig:
    """A model of features of width 12, 4 frames and 5 actions; large initial weights make outputs differ visibly."""
    fields = {
        "backbone_config": None,
        "feature_dim": 12,
        "head_hidden_size": 32,
        "head_num_layers": 2,
        "head_num_positions": 16,
        "num_frames": 4,
        "tau_o": 4.0,
        "num_labels": 5,
        "initializer_range": 0.3,
    }
    if "id2label" in overrides:
        del fields["num_labels"]
    return AVTConfig(**{**fields, **overrides})


def tiny_vit_config(**overrides) -> AVTConfig:
    vit = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    return tiny_config(**{"backbone_config": vit, "feature_dim": None, **overrides})


# Encoders of frames of 32 px, or of clips of 4 such frames, with features of width 32.
TINY_ENCODERS = {
    "vit": {"image_size": 32, "patch_size": 8},
    "dinov2": {"image_size": 32, "patch_size": 8},
    "videomae": {"image_size": 32, "patch_size": 8, "num_frames": 4},
    "timesformer": {"image_size": 32, "patch_size": 8, "num_frames": 4},
    "vivit": {"image_size": 32, "tubelet_size": [2, 8, 8], "num_frames": 4},
    "vjepa2": {
        "crop_size": 32,
        "patch_size": 8,
        "frames_per_clip": 4,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 2,
    },
}
VIDEO_ENCODERS = ("videomae", "timesformer", "vivit", "vjepa2")


def tiny_encoder(kind: str, **overrides):
    """The configuration of a tiny image or video model."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return CONFIG_MAPPING[kind](**{**sizes, **TINY_ENCODERS[kind], **overrides})


def tiny_encoder_config(kind: str, **overrides) -> AVTConfig:
    """A student with an encoder from `TINY_ENCODERS`; clips have 2 frames per second, moments are a second apart."""
    fields = {"backbone_config": tiny_encoder(kind), "feature_dim": None, "clip_frame_rate": 2.0}
    return tiny_config(**{**fields, "probe_num_layers": 2, "probe_num_heads": 4, **overrides})


def tiny_model(config: AVTConfig | None = None) -> AVTForAnticipation:
    torch.manual_seed(0)
    return AVTForAnticipation(config or tiny_config()).eval()


def tiny_processor(**overrides) -> AVTVideoProcessor:
    fields = {"size": 36, "crop_size": 32, "train_size": (36, 40), "num_frames": 4, "tau_o": 4.0}
    return AVTVideoProcessor(**{**fields, **overrides})


def processor_of(model: AVTForAnticipation) -> AVTVideoProcessor:
    """Returns a tiny processor that samples the moments that a model observes."""
    names = ("num_frames", "frame_rate", "tau_o", "clip_num_frames", "clip_frame_rate")
    return tiny_processor(**{name: getattr(model.config, name) for name in names})
