"""Dropout with cheap masks: on a CPU, one random number per element takes longer than a matrix product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 1 << 16
"""Each element gets 16 random bits, so the rate is exact to within 1/131072."""


class CheapDropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) whose mask takes 16 random bits per element, four elements from one draw.

    The elements are dropped independently, at `p` rounded to a multiple of 2^-16, and the others are scaled by
    1 / (1 - p), as in `torch.nn.Dropout`. The bits come from torch's generator for the CPU: the same seed gives the
    same masks, though not those of `torch.nn.Dropout`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, of any shape, with elements dropped; unchanged in evaluation mode."""
        if not self.training or self.p == 0.0:
            return input
        return input * keep_mask(input, self.p)


def keep_mask(like: Tensor, p: float) -> Tensor:
    """Return a mask of the shape, type and device of `like`: 0 with probability `p`, else 1 / (1 - p)."""
    count = like.numel()
    smallest = torch.iinfo(torch.int64).min
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(smallest, None)
    bits = draws.view(torch.int16)[:count].view(like.shape)
    threshold = round(p * LEVELS) - LEVELS // 2  # int16 counts from -LEVELS / 2
    return (bits >= threshold).to(like).mul_(1.0 / (1.0 - p))


def cheapen(model: nn.Module) -> int:
    """Replace every `torch.nn.Dropout` in `model` with a `CheapDropout` of the same rate; return their number."""
    dropouts = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if type(child) is nn.Dropout
    ]
    for module, name, child in dropouts:
        cheap = CheapDropout(child.p)
        cheap.train(child.training)
        module.set_submodule(name, cheap)
    return len(dropouts)
