"""Folders of tiny pretrained encoders, as a user downloads them."""

import json
from pathlib import Path

import torch
from helpers.tiny_models import tiny_encoder
from transformers import AutoModel

PREPROCESSING = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}


def write_encoder(folder: Path, kind: str, *, seed: int = 0, preprocessing: dict = PREPROCESSING, **overrides) -> Path:
    """Writes a random encoder of a kind of `TINY_ENCODERS` with its preprocessing."""
    torch.manual_seed(seed)
    AutoModel.from_config(tiny_encoder(kind, **overrides)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder
