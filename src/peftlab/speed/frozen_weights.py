"""Stores frozen weights in bf16, to which autocast rounds them at every call anyway."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


def store_in_bf16(model: nn.Module) -> int:
    """Store the weights of frozen linear layers in bf16; return the number of layers.

    Autocast caches its rounded copies only of weights that need a gradient, and so rounds frozen ones again in every
    forward. Rounded once, they have the same bits: outputs under bf16 autocast do not change. Embeddings and norms,
    which autocast leaves in fp32, stay as they are, as does a linear layer that shares its weight with one, or whose
    weight a method uses itself (DoRA takes its norm, OFT rotates it). The model can no longer be called outside
    autocast.
    """
    others = [module for module in model.modules() if not isinstance(module, nn.Linear)]
    kept = {id(parameter) for module in others for parameter in module.parameters(recurse=False)}
    computing = [m for m in model.modules() if isinstance(m, BaseTunerLayer) and not _only_calls_its_layer(m)]
    operands = {id(module) for adapted in computing for module in adapted.modules()}
    frozen = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear)
        and id(module) not in operands
        and not any(p.requires_grad or id(p) in kept for p in module.parameters(recurse=False))
    ]
    for layer in frozen:
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data.to(torch.bfloat16)
    return len(frozen)


def _only_calls_its_layer(adapted: Any) -> bool:
    """Return whether a layer of the peft library only adds to its base layer's output."""
    return isinstance(adapted, LoraLayer) and not adapted.lora_variant
