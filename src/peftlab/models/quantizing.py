"""Keeps the frozen linear layers of a backbone in 4 or 8 bits, as QLoRA does (Dettmers et al. 2023).

A quantised layer is a linear layer whose `weight` is computed from few bits whenever it is read. So whatever adds to a
layer's output, or reads its weight, works as on a plain layer that holds the rounded weights, in training as in use and
on every device; only what writes to the weight cannot.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError

Quantization = Literal["none", "nf4", "int8"]

_BLOCK = 64
"""Weights that share a scale in NF4."""


class QuantizedLinear(nn.Linear):
    """A frozen linear layer, y = x W^T + b, that keeps W in few bits and b as it was.

    The product is computed as that of a plain layer, in the input's dtype or that of autocast. The backward pass
    computes W again, so that no full copy of it outlives a pass.
    """

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        self.training = layer.training
        for name, tensor in self.quantized(layer.weight.detach().float()).items():
            self.register_buffer(name, tensor, persistent=False)

    @staticmethod
    @abstractmethod
    def quantized(weight: Tensor) -> dict[str, Tensor]:
        """Return the tensors, by name, that stand for `weight` of shape (out, in) in fp32."""

    @abstractmethod
    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight that these tensors stand for, of shape (out, in)."""

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # a plain layer's is a parameter
        """The rounded weight in fp32, of shape (out, in); what is written to it is lost."""
        return self.dequantized(torch.float32)

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output of shape (..., out) for `input` of shape (..., in)."""
        device = input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype
        rows = input.to(dtype).reshape(-1, self.in_features)  # so that the product is no view: some add to it in place
        bias = None if self.bias is None else self.bias.to(dtype)
        return _Product.apply(rows, bias, self).view(*input.shape[:-1], -1)  # type: ignore[no-untyped-call]


class NF4Linear(QuantizedLinear):
    """A linear layer in 4-bit NormalFloat: 16 values, and a scale in fp32 for each 64 weights (section 3)."""

    packed: Tensor
    scales: Tensor

    @override
    @staticmethod
    def quantized(weight: Tensor) -> dict[str, Tensor]:
        from bitsandbytes.functional import quantize_4bit

        packed, state = quantize_4bit(weight, blocksize=_BLOCK, quant_type="nf4")
        return {"packed": packed, "scales": state.absmax}

    @override
    def dequantized(self, dtype: torch.dtype) -> Tensor:
        from bitsandbytes.functional import QuantState, dequantize_4bit

        shape = torch.Size((self.out_features, self.in_features))
        state = QuantState(self.scales, shape, blocksize=_BLOCK, quant_type="nf4", dtype=dtype)
        return dequantize_4bit(self.packed, state)


class Int8Linear(QuantizedLinear):
    """A linear layer in 8-bit integers with a scale in fp32 for each output (Dettmers et al. 2022, section 2.1).

    Inputs are not quantised.
    """

    packed: Tensor
    scales: Tensor

    @override
    @staticmethod
    def quantized(weight: Tensor) -> dict[str, Tensor]:
        from bitsandbytes.functional import int8_vectorwise_quant

        packed, scales, _ = int8_vectorwise_quant(weight.half())
        return {"packed": packed, "scales": scales}

    @override
    def dequantized(self, dtype: torch.dtype) -> Tensor:
        return (self.packed * (self.scales / 127)[:, None]).to(dtype)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, bias: Tensor | None, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(rows, layer.dequantized(rows.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_input, of_bias, _ = ctx.needs_input_grad
        return (
            grad @ ctx.layer.dequantized(grad.dtype) if of_input else None,
            grad.sum(0) if of_bias else None,
            None,
        )


CLASSES: dict[str, type[QuantizedLinear]] = {"nf4": NF4Linear, "int8": Int8Linear}


def quantize(model: nn.Module, kind: Quantization, names: Sequence[str]) -> None:
    """Replace linear layers of `model`, which is in fp32, by quantised ones, in place.

    Biases stay as they are. On the CPU, the bits depend on the weights alone.

    Args:
        model: the model.
        kind: the form; ``none`` changes nothing.
        names: the layers.

    Raises:
        ConfigError: the package is missing, or the layers are not torch's.
    """
    if kind == "none":
        return
    check_installed(kind)
    layers = {name: layer for name in names if isinstance(layer := model.get_submodule(name), nn.Linear)}
    if not layers or len(layers) < len(names):  # GPT-2's are of a class of their own, with transposed weights
        raise ConfigError(
            f"model.quantize={kind}: the blocks of {type(model).__name__} are not made of torch's linear layers; set "
            "model.quantize=none"
        )
    for name, layer in layers.items():
        _replace(model, name, CLASSES[kind](layer))


def dequantize(model: nn.Module) -> None:
    """Replace quantised layers by plain ones that hold the rounded weights in fp32, in place."""
    quantized = {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}
    for name, layer in quantized.items():
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        plain.weight = nn.Parameter(layer.weight, requires_grad=False)
        plain.bias = layer.bias
        _replace(model, name, plain.train(layer.training))


def quantized_parameters(model: nn.Module) -> int:
    """Return the number of weights of `model` that are quantised, which are none of its parameters."""
    layers = {module for module in model.modules() if isinstance(module, QuantizedLinear)}
    return sum(layer.in_features * layer.out_features for layer in layers)


def check_installed(kind: Quantization) -> None:
    """Raise a ConfigError if what `kind` needs is not installed."""
    if kind != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f'model.quantize={kind}: the package bitsandbytes is missing: pip install "peftlab[quantize]"'
        )


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
