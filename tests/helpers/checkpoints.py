"""Incomplete checkpoints."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]


def change_weights(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """Rewrites the weights file of a checkpoint."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def without(*beginnings: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if not name.startswith(beginnings)}


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: value for name, value in weights.items()}


def cut_off(folder: Path, share: float = 0.5, name: str = "model.safetensors") -> Path:
    file = folder / name
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    return folder


def added(weights: Mapping[str, torch.Tensor]) -> Callable[[Weights], Weights]:
    return lambda own: {**own, **weights}
