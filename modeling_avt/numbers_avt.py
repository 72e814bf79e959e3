"""Which numbers a model computes with: the type of its inputs, and the bounds that features, weights and scores keep.

A score that is computed from NaN, infinity or an overflow is a number like any other after softmax, so what is not
finite is refused when it comes in and when answers are formed.
"""

import torch
from torch import nn

COMPUTED_IN = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Layer norms sum squares. Far above this, float32 overflows in them, and their output no longer depends on the input.
LARGEST = 1e12
# Buffers that features pass through, as they do through weights.
STATISTICS = ("feature_mean", "feature_deviation", "running_mean", "running_var")
FLOAT16 = "float16 holds no more than 65504, so load the model with dtype=torch.float32 or torch.bfloat16"


def compute_dtype(*modules: nn.Module) -> torch.dtype:
    """Returns the type to cast inputs to: that of the first parameter of these modules that is computed with as it is.

    Packed weights are not: 4- and 8-bit ones are stored as uint8 and int8, others as float8, and dynamic quantization
    leaves no parameter at all. Their layers unpack them; inputs cast to such a type would lose their values. Without
    any other parameter the type is float32.
    """
    for module in modules:
        for parameter in module.parameters():
            if parameter.dtype in COMPUTED_IN:
                return parameter.dtype
    return torch.float32


def check_features(features: torch.Tensor, what: str, advice: str):
    """Raises `ValueError` unless features are finite and of a size that can be computed with.

    Args:
        features (`torch.Tensor` of shape `(..., D)`): Those of observed frames.
        what (`str`): What they are, for the message: "The observed features".
        advice (`str`): The next step.
    """
    if not _is_computable(features):
        largest = features.detach().float().abs().max().item()
        raise ValueError(
            f"{what} are not finite or too large to compute with (up to {largest:g}, where 1e12 is accepted): NaN or "
            f"infinity would spoil every answer that observes them; {advice}."
        )


def check_encoded(features: torch.Tensor):
    """Raises `ValueError` unless features that a backbone computed can be computed with."""
    advice = f"the backbone's weights are damaged, or a number overflowed in it: {FLOAT16}"
    check_features(features, "Features that the backbone computed", advice)


def check_scores(scores: torch.Tensor):
    """Raises `ValueError` unless scores, logits or log probabilities `(..., A)`, are finite and of a sensible size."""
    if not _is_computable(scores):
        raise ValueError(
            "The model's scores are not finite, so there is no answer: its weights or its input hold NaN, infinity or "
            f"numbers too large to compute with, or a number overflowed; {FLOAT16}, and otherwise check the input and "
            "fetch the checkpoint again."
        )


def check_weights(model: nn.Module, source: str):
    """Raises `ValueError` if a weight is not finite, or too large to compute with; packed ones are not looked at.

    It reads all weights, so it is called when a model is loaded or a pipeline or stream is made, and not for each
    answer.

    Args:
        model (`nn.Module`): Any.
        source (`str`): Where the weights are from, for the message.
    """
    statistics = [pair for pair in model.named_buffers() if pair[0].endswith(STATISTICS)]
    named = [
        (name, values.detach())
        for name, values in [*model.named_parameters(), *statistics]
        if values.dtype in COMPUTED_IN and values.numel() and not values.is_meta
    ]
    # `aminmax` passes NaN on and allocates nothing as large as a weight.
    bounds = [torch.stack(values.aminmax()).float().abs().max() for _, values in named]
    for (name, values), largest in zip(named, bounds, strict=True):
        if not largest <= LARGEST:
            advice = f"; {FLOAT16}" if values.dtype == torch.float16 else ""
            raise ValueError(
                f"The weight '{name}' of {source} holds {largest.item():g}, where finite numbers up to 1e12 are "
                f"accepted: fetch the checkpoint again, or train it anew{advice}."
            )


def _is_computable(values: torch.Tensor) -> bool:
    if not values.numel():
        return True
    smallest, largest = values.detach().aminmax()  # both NaN if one value is
    return smallest.item() >= -LARGEST and largest.item() <= LARGEST
