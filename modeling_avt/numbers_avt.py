"""Numeric checks: the dtype of a model's inputs, and the bounds of features, weights and scores.

After softmax, a score computed from NaN, infinity or an overflow may look like any other, so values that are not finite
are refused on input and again before answers are formed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

COMPUTED_IN = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Layer norms sum squares. Far above this, float32 overflows in them, and their output no longer depends on the input.
LARGEST = 1e12
# Buffers that features are computed with, checked like weights.
FEATURE_STATISTICS = ("feature_mean", "feature_deviation")
STATISTICS = (*FEATURE_STATISTICS, "running_mean", "running_var")
FLOAT16 = "float16 overflows above 65504, so load the model with dtype=torch.float32 or torch.bfloat16"


def compute_dtype(*modules: nn.Module) -> torch.dtype:
    """Returns the dtype to cast inputs to: that of the first parameter of these modules that is not packed.

    Packed 4- and 8-bit weights are stored as uint8, int8 or float8, and dynamic quantization leaves no parameter at
    all. Their layers unpack them; casting inputs to such a dtype would destroy their values. Without any other
    parameter the dtype is float32.
    """
    for module in modules:
        for parameter in module.parameters():
            if parameter.dtype in COMPUTED_IN:
                return parameter.dtype
    return torch.float32


def as_tensor(array: Any) -> torch.Tensor:
    """Returns an array, an image, or a list of arrays, images or tensors of one shape as a tensor without gradients.

    Accepts views with negative strides (BGR reversed to RGB), which torch refuses, and lists of tensors that NumPy
    refuses: in bfloat16, on an accelerator, or with gradients.

    Raises:
        ValueError: If shapes differ, or there are no numbers.
    """
    if isinstance(array, torch.Tensor):
        return array.detach()
    if isinstance(array, (list, tuple)):
        if not any(isinstance(row, torch.Tensor) for row in array):
            return as_tensor(np.stack(array))
        rows = [as_tensor(row) for row in array]
        if len(shapes := {tuple(row.shape) for row in rows}) > 1:
            raise ValueError(f"The list holds arrays of the shapes {sorted(shapes)}: give arrays of one shape.")
        return torch.stack(rows)
    numbers = np.ascontiguousarray(array)
    if numbers.dtype.kind not in "biuf":
        raise ValueError(f"A {type(array).__name__} is given instead of an array: give an array of its values.")
    return torch.as_tensor(numbers)


def moved_only(fn: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a function of `Module._apply` that moves tensors as `fn` does, but keeps their dtype.

    `Module._apply` casts floating-point buffers together with the parameters.
    """

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        result = fn(tensor)
        return result if result.dtype == tensor.dtype else tensor.to(result.device)

    return moved


def check_features(features: torch.Tensor, what: str, advice: str):
    """Raises `ValueError` unless features are finite and at most 1e12 in absolute value.

    Args:
        features (`torch.Tensor` of shape `(..., D)`): Features of observed frames.
        what (`str`): What they are, for the message, such as "The observed features".
        advice (`str`): The next step, for the message.
    """
    if not _is_computable(features):
        largest = features.detach().float().abs().max().item()
        raise ValueError(
            f"{what} are not finite or too large (up to {largest:g}, but at most 1e12 is accepted): NaN or infinity "
            f"would corrupt every answer computed from them; {advice}."
        )


def check_encoded(features: torch.Tensor):
    """Raises `ValueError` unless the features that a backbone computed are finite and not too large."""
    advice = f"the backbone's weights are damaged, or a number overflowed in it: {FLOAT16}"
    check_features(features, "Features that the backbone computed", advice)


def check_scores(scores: torch.Tensor):
    """Raises `ValueError` unless scores `(..., A)`, logits or log probabilities, are finite and not too large."""
    if not _is_computable(scores):
        raise ValueError(
            "The model's scores are not finite, so it cannot answer: its weights or its input hold NaN, infinity or "
            f"numbers too large to compute with, or a number overflowed; {FLOAT16}, and otherwise check the input and "
            "fetch the checkpoint again."
        )


def check_weights(model: nn.Module, source: str):
    """Raises `ValueError` if a weight is not finite or too large; packed weights are not checked.

    This reads all weights, so it is called when a model is loaded or a pipeline or stream is created, not for each
    answer.

    Args:
        model (`nn.Module`): The model to check.
        source (`str`): Where the weights come from, for the message.
    """
    statistics = [pair for pair in model.named_buffers() if pair[0].endswith(STATISTICS)]
    named = [
        (name, values.detach())
        for name, values in [*model.named_parameters(), *statistics]
        if values.dtype in COMPUTED_IN and values.numel() and not values.is_meta
    ]
    # `aminmax` propagates NaN, and does not allocate a tensor as large as the weight.
    bounds = [torch.stack(values.aminmax()).float().abs().max() for _, values in named]
    for (name, values), largest in zip(named, bounds, strict=True):
        if not largest <= LARGEST:
            advice = f"; {FLOAT16}" if values.dtype == torch.float16 else ""
            raise ValueError(
                f"The weight '{name}' of {source} holds {largest.item():g}, but only finite numbers up to 1e12 are "
                f"accepted: fetch the checkpoint again, or retrain it{advice}."
            )


def _is_computable(values: torch.Tensor) -> bool:
    if not values.numel():
        return True
    smallest, largest = values.detach().aminmax()  # both NaN if one value is
    return smallest.item() >= -LARGEST and largest.item() <= LARGEST
