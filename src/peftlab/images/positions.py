"""Pictures of another size than a vision transformer was pretrained on: its positions are interpolated."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch
from torch import nn

_KEY = "interpolate_pos_encoding"


def interpolate_positions(model: nn.Module) -> None:
    """Have the embeddings of `model` interpolate their positions wherever pictures have another size than its own.

    Models that do so by themselves, as DINOv2, or have no positions, as ConvNeXt, stay as they are.
    """
    for module in _with_fixed_positions(model):
        module.register_forward_pre_hook(_interpolating, with_kwargs=True)


@torch.no_grad()
def settle_positions(model: Any, size: int) -> None:
    """Replace the positions of a plain `model` by those that it interpolates for pictures of a `size`, for good."""
    for module in _with_fixed_positions(model):
        table = module.position_embeddings if hasattr(module, "position_embeddings") else module.position_embedding
        patches = [each for each in module.modules() if hasattr(each, "image_size") and each is not module]
        hidden = (table if isinstance(table, nn.Parameter) else table.weight).shape[-1]
        patch = module.patch_size if isinstance(module.patch_size, int) else module.patch_size[0]
        count = (size // patch) ** 2 + int(hasattr(module, "cls_token"))
        wanted = module.interpolate_pos_encoding(torch.zeros(1, count, hidden), size, size).detach().clone()
        if isinstance(table, nn.Parameter):
            module.position_embeddings, module.image_size = nn.Parameter(wanted), (size, size)
        else:  # SigLIP looks them up by their numbers
            module.position_embedding = nn.Embedding.from_pretrained(wanted[0], freeze=False)  # type: ignore[no-untyped-call]
            module.num_patches = module.num_positions = count
            module.position_ids = torch.arange(count).expand(1, -1)
            module.image_size = size
        for each in patches:
            each.image_size, each.num_patches = (size, size), (size // patch) ** 2
        getattr(model.config, "vision_config", model.config).image_size = size


def _with_fixed_positions(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        if hasattr(module, _KEY) and _KEY in signature(module.forward).parameters:
            yield module


def _interpolating(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, kwargs | ({} if len(args) > 2 else {_KEY: True})
