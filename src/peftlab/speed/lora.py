"""Fuses LoRA into one autograd function: its input is rounded once, its update added to the base layer's output."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from peftlab.seams.pytorch import is_hooked


class FusedLoraLinear(LoraLinear):  # type: ignore[misc]  # peft has no types
    """peft's LoRA on a linear layer, y = x W^T + b + s (x A^T) B^T (Hu et al. 2021, eq. 3), with fewer passes.

    The library's forward makes three tensors of the output's size (base, update, scaled update) and, under autocast,
    rounds the input once for W and once for A. Here the update is accumulated into the base layer's output, which
    saves another rounding. The gradients are those of the same formula. Differentiable only once.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output of shape (..., out) for `x` of shape (..., in)."""
        if args or kwargs or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        base = self.get_base_layer()
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        return _LoraLinear.apply(x, base.weight, base.bias, down, up, self.scaling[name])  # type: ignore[no-untyped-call]


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
    ) -> Tensor:
        ctx.scaling, ctx.types = scaling, (x.dtype, down.dtype, up.dtype)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        rows = x.to(dtype).flatten(0, -2)
        weight, down, up = weight.to(dtype), down.to(dtype), up.to(dtype)
        reduced = rows @ down.T
        out = F.linear(rows, weight, None if bias is None else bias.to(dtype)).addmm_(reduced, up.T, alpha=scaling)
        ctx.save_for_backward(rows, reduced, weight, down, up)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, reduced, weight, down, up = ctx.saved_tensors
        x_type, down_type, up_type = ctx.types
        grad_rows = grad.flatten(0, -2)
        grad_reduced = grad_rows @ up
        grad_down = (grad_reduced.T @ rows).to(down_type).mul_(ctx.scaling)
        grad_up = (grad_rows.T @ reduced).to(up_type).mul_(ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad_rows @ weight).addmm_(grad_reduced, down, alpha=ctx.scaling)
            grad_x = grad_x.view(*grad.shape[:-1], -1).to(x_type)
        return grad_x, None, None, grad_down, grad_up, None


def fuse_lora(model: nn.Module) -> int:
    """Give every plain LoRA layer of `model` the fused forward; return their number.

    A plain layer is linear with a frozen base, without dropout, bias or a variant such as DoRA, and nothing of another
    method acts around its base, which is not called. Names, tensors and merging stay those of the library.
    """
    plain = [module for module in model.modules() if type(module) is LoraLinear and _is_plain(module)]
    for module in plain:
        module.__class__ = FusedLoraLinear
    return len(plain)


def _is_plain(module: LoraLinear) -> bool:
    base = module.get_base_layer()
    return (
        type(base) is nn.Linear
        and not is_hooked(base)
        and not any(p.requires_grad for p in base.parameters())
        and not module.lora_variant
        and not any(module.lora_bias.values())
        and all(isinstance(dropout, nn.Identity) for dropout in module.lora_dropout.values())
    )
