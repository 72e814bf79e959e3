"""Tiny random models and their processor."""

import torch
from transformers import ViTConfig

from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor

VERB_NOUN = {
    "label_types": ["action", "verb", "noun"],
    "verb_id2label": {0: "cut", 1: "mix"},
    "noun_id2label": {0: "egg", 1: "oil", 2: "flour"},
    "action_to_verb_noun": [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]],
}


def tiny_config(**overrides) -> AVTConfig:
    """Features of width 12, 4 frames, 5 actions; larger initial weights than AVT's, so that outputs differ visibly."""
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


def tiny_model(config: AVTConfig | None = None) -> AVTForAnticipation:
    torch.manual_seed(0)
    return AVTForAnticipation(config or tiny_config()).eval()


def tiny_processor(**overrides) -> AVTVideoProcessor:
    fields = {"size": 36, "crop_size": 32, "train_size": (36, 40), "num_frames": 4, "tau_o": 4.0}
    return AVTVideoProcessor(**{**fields, **overrides})
