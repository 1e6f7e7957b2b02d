"""Frozen weights in bf16: under autocast they are rounded to it at every call anyway."""

from __future__ import annotations

import torch
from torch import nn


def store_in_bf16(model: nn.Module) -> int:
    """Store the weights of frozen linear layers in bf16; return how many layers.

    Autocast keeps its rounded copies only of weights that need a gradient, so that frozen ones are rounded again in
    every forward. Rounded once, they are the same bits: the outputs under bf16 autocast do not change. Embeddings and
    norms, which autocast leaves in fp32, stay as they are, and so does a linear layer that shares its weight with one.
    Outside autocast the model cannot be called any more.
    """
    others = [module for module in model.modules() if not isinstance(module, nn.Linear)]
    kept = {id(parameter) for module in others for parameter in module.parameters(recurse=False)}
    frozen = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear)
        and not any(p.requires_grad or id(p) in kept for p in module.parameters(recurse=False))
    ]
    for layer in frozen:
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data.to(torch.bfloat16)
    return len(frozen)
