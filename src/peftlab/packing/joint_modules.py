"""Modules of several models run as one: what is frozen on all rows at once, what is trained as batched products.

Each function takes the matching modules of all models, and returns the forward of the first one on joint rows: run
after run, all with as many rows. Weights are stacked in the forward pass, so that each gets its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft.tuners.ia3.layer import Linear as IA3Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from peftlab.speed.lora import FusedLoraLinear

Forward = Callable[..., Any]


def linear(modules: Sequence[nn.Linear]) -> Forward:
    """Linear layers with trained weights, trained biases, or both."""
    lead = modules[0]

    def forward(x: Tensor) -> Tensor:
        if _is_shared(modules, "weight"):
            out = F.linear(x, lead.weight).reshape(len(modules), -1, lead.out_features)
        else:
            weights = torch.stack([module.weight for module in modules])
            out = torch.bmm(x.reshape(len(modules), -1, lead.in_features), weights.mT)
        if lead.bias is not None:
            out = out + torch.stack([module.bias for module in modules])[:, None].to(out.dtype)
        return out.view(*x.shape[:-1], -1)

    return forward


def layer_norm(modules: Sequence[nn.LayerNorm]) -> Forward:
    """Layer normalisations with a trained scale, a trained shift, or both."""
    lead = modules[0]

    def forward(x: Tensor) -> Tensor:
        out = F.layer_norm(x, lead.normalized_shape, eps=lead.eps)
        out = out.reshape(len(modules), -1, *lead.normalized_shape)
        if lead.weight is not None:
            out = out * torch.stack([module.weight for module in modules])[:, None]
        if lead.bias is not None:
            out = out + torch.stack([module.bias for module in modules])[:, None]
        return out.view(x.shape)

    return forward


def ia3(modules: Sequence[IA3Linear]) -> Forward:
    """The library's scaling of a frozen layer's inputs or outputs (Liu et al. 2022, section 3.3)."""
    lead = modules[0]
    (name,) = lead.active_adapters

    def scaled(x: Tensor) -> Tensor:
        scales = torch.stack([module.ia3_l[name].flatten() for module in modules])[:, None]
        return (x.reshape(len(modules), -1, x.shape[-1]) * scales).to(x.dtype).view(x.shape)

    def forward(x: Tensor) -> Tensor:
        return lead.base_layer(scaled(x)) if lead.is_feedforward else scaled(lead.base_layer(x))

    return forward


def fused_lora(modules: Sequence[FusedLoraLinear]) -> Forward:
    """LoRA without dropout on frozen layers, see `FusedLoraLinear`; scalings and ranks may differ."""
    base = modules[0].get_base_layer()
    (name,) = modules[0].active_adapters
    scalings = [module.scaling[name] for module in modules]
    factors: dict[torch.device, Tensor] = {}
    rank = max(module.r[name] for module in modules)

    def forward(x: Tensor) -> Tensor:
        down = torch.stack([_lengthened(module.lora_A[name].weight, 0, rank) for module in modules])
        up = torch.stack([_lengthened(module.lora_B[name].weight, 1, rank) for module in modules])
        if x.device not in factors:  # once: a copy to a GPU would wait for it
            factors[x.device] = torch.tensor(scalings, device=x.device)[:, None, None]
        return _JointLora.apply(x, base.weight, base.bias, down, up, factors[x.device])  # type: ignore[no-untyped-call]

    return forward


class _JointLora(torch.autograd.Function):
    """As `peftlab.speed.lora` computes one layer: y_k = x_k W^T + b + s_k (x_k A_k^T) B_k^T, for each model k."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scalings: Tensor
    ) -> Tensor:
        ctx.types = (x.dtype, down.dtype, up.dtype)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        rows = x.to(dtype).reshape(len(down), -1, x.shape[-1])
        weight, down, up, scalings = weight.to(dtype), down.to(dtype), up.to(dtype), scalings.to(dtype)
        reduced = torch.bmm(rows, down.mT)
        out = F.linear(rows, weight, None if bias is None else bias.to(dtype))
        out = out.baddbmm_(reduced * scalings, up.mT)
        ctx.save_for_backward(rows, reduced, weight, down, up, scalings)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, reduced, weight, down, up, scalings = ctx.saved_tensors
        x_type, down_type, up_type = ctx.types
        grad_rows = grad.reshape(*rows.shape[:2], -1)
        grad_reduced = torch.bmm(grad_rows, up) * scalings
        grad_down = torch.bmm(grad_reduced.mT, rows).to(down_type)
        grad_up = (torch.bmm(grad_rows.mT, reduced) * scalings).to(up_type)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad_rows @ weight).baddbmm_(grad_reduced, down).view(*grad.shape[:-1], -1).to(x_type)
        return grad_x, None, None, grad_down, grad_up, None


JOINT: dict[type[nn.Module], Callable[[Any], Forward]] = {
    nn.Linear: linear,
    nn.LayerNorm: layer_norm,
    IA3Linear: ia3,
    FusedLoraLinear: fused_lora,
}
"""By exact type."""


def _lengthened(weight: Tensor, place: int, size: int) -> Tensor:
    """Return `weight` with zeros added to its dimension `place`, 0 or 1, so that it has `size`."""
    missing = size - weight.shape[place]
    if not missing:
        return weight
    return F.pad(weight, (0, 0, 0, missing) if place == 0 else (0, missing))


def _is_shared(modules: Sequence[nn.Module], name: str) -> bool:
    return all(getattr(module, name).data_ptr() == getattr(modules[0], name).data_ptr() for module in modules)
