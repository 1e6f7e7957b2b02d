"""LLRD: the learning rate decays from the head down to the embeddings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import ClassVar

from pydantic import Field
from torch import nn
from typing_extensions import override

from peftlab.methods.head import is_of_head
from peftlab.methods.targets import LINEAR, block_of
from peftlab.regularizers.regularizer import RateRule, spec


@spec
class Llrd(RateRule):
    """Layer-wise decay of the learning rate: `decay` to the power of the depth below the head (Howard and Ruder 2018).

    The head and what follows the last block, such as a final norm, keep the full rate. The uppermost of N blocks is at
    depth 1, the lowest at depth N, and embeddings, with all that precedes the blocks, at depth N + 1. Weights that a
    method puts into a block have the block's depth. Blocks that share their weights, as in ALBERT, are one.
    """

    decay: float = Field(default=0.9, gt=0, le=1)
    """0.8 to 0.95 is usual; 1 is no decay."""
    slowed: dict[str, float] = field(default_factory=dict, init=False)
    """The factor of each trained parameter whose rate is not the full one."""
    neutral: ClassVar[Mapping[str, float]] = {"decay": 1}
    host_work: ClassVar[str | None] = None

    @override
    def factors(self, model: nn.Module, head: Collection[str]) -> Mapping[str, float]:
        depths = depths_of(model, head)
        factors = {name: self.decay ** depths[name] for name, p in model.named_parameters() if p.requires_grad}
        self.slowed = {name: factor for name, factor in factors.items() if factor != 1}
        return factors

    @override
    def acted(self) -> Mapping[str, float]:
        return {"weights": len(self.slowed), "lowest": min(self.slowed.values(), default=1.0)}


def depths_of(model: nn.Module, head: Collection[str]) -> dict[str, int]:
    """Return how far below the head each parameter of `model` is, by name.

    Parameters outside the blocks belong to what stands before them in the model: to the embeddings until the first
    block, and from every embedding on, such as that of DeBERTa's relative positions, which follows its blocks; else to
    the top.

    Args:
        model: its repeated blocks are the members of lists that hold linear layers.
        head: names of the modules that make up the task's head.
    """
    modules = dict(model.named_modules())
    stacks: dict[str, int] = {}
    for name, module in modules.items():
        block = None if is_of_head(name, head) else block_of(name)
        if block and isinstance(module, LINEAR) and isinstance(modules[block[0]], nn.ModuleList):
            stacks[block[0]] = max(stacks.get(block[0], 0), block[1] + 1)
    below = 1 + max(stacks.values(), default=0)
    depths, outside = dict[str, int](), below
    for prefix, module in modules.items():
        stack, number = block_of(f"{prefix}.") or ("", 0)
        if is_of_head(prefix, head):
            depth = 0
        elif stack in stacks:
            depth, outside = stacks[stack] - number, 0
        else:
            depth = outside = below if isinstance(module, nn.Embedding) else outside
        for name, _ in module.named_parameters(prefix, recurse=False):
            depths[name] = depth
    return depths
