"""Models whose weights are packed, as quantization libraries pack them."""

import copy
import warnings

import torch
from torch import nn

PACKED_TYPES = {"int8": torch.int8, "uint8": torch.uint8, "float8": torch.float8_e4m3fn}
WAYS = (*PACKED_TYPES, "dynamic")


class PackedLinear(nn.Linear):
    """A linear layer that stores its weight in another type, and unpacks it to the type of its input."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype):
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        weight = layer.weight.detach()
        self.scale, self.zero = 1.0, 0
        if not dtype.is_floating_point:
            self.scale, self.zero = weight.abs().max().item() / 127, 128 if dtype == torch.uint8 else 0
            weight = (weight / self.scale).round() + self.zero
        self.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, (self.weight.to(x.dtype) - self.zero) * self.scale, self.bias)


def packed(model: nn.Module, way: str) -> nn.Module:
    """Returns a copy of a model whose linear layers are packed in one of `WAYS`."""
    model = copy.deepcopy(model)
    if way == "dynamic":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch is going to move it to another package
            return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Linear:
                setattr(module, name, PackedLinear(layer, PACKED_TYPES[way]))
    return model
