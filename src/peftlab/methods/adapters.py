"""Bottleneck adapters: a small network beside or after the sub-layers of a frozen transformer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn
from transformers.activations import ACT2FN

from peftlab.methods.insertion import Block, BlockInsertion, add_after
from peftlab.methods.method import LARGEST, MethodContext, spec
from peftlab.methods.targets import target_modules

Activation = Literal["relu", "gelu", "silu", "tanh"]
"""The non-linearity between the two projections."""


class Bottleneck(nn.Module):
    """s W_up f(W_down h + b_down) + b_up (Houlsby et al. 2019, section 2.1; He et al. 2022, equation 4 and table 1).

    The up-projection begins as zero, so that the model begins as it was; Houlsby et al. begin near there, at random.
    """

    def __init__(self, hidden: int, bottleneck: int, activation: Activation, scaling: float = 1.0) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(hidden, bottleneck), nn.Linear(bottleneck, hidden)
        self.activation, self.scaling = ACT2FN[activation], scaling
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return what is added to the hidden states, of their shape (..., hidden)."""
        return self.scaling * self.up(self.activation(self.down(states)))


class ParallelBottleneck(Bottleneck):
    """A bottleneck that sees the input of a sub-layer, and is added to its output."""

    def take(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Keep the input of the sub-layer for the call that follows; a hook before its first layer."""
        self._input = inputs[0]

    def forward(self, output: Tensor) -> Tensor:
        """Return what is added to the sub-layer's `output`."""
        states = self._input
        del self._input
        return super().forward(states)


@spec
class Adapters(BlockInsertion):
    """What bottleneck adapters have in common."""

    bottleneck: int = Field(gt=0, le=LARGEST)
    """The size between the two projections."""
    activation: Activation = "relu"
    """The non-linearity there."""


@spec
class TwoAdapters(Adapters):
    """Two adapters a block, after attention and after the feed-forward network (Houlsby et al. 2019, figure 2).

    They see what the sub-layer adds to the residual stream, before dropout; in the paper, after it.
    """

    layer_norms: bool = True
    """Whether the normalisations of the blocks are trained, too (there, section 2.1)."""

    def insert(self, model: nn.Module, context: MethodContext) -> None:
        """See `Insertion.insert`."""
        super().insert(model, context)
        if self.layer_norms:
            for name in target_modules(model, "layer_norms", context.not_adapted, self.layers):
                model.get_submodule(name).requires_grad_(True)

    def insert_into(self, blocks: list[Block]) -> None:
        """See `BlockInsertion.insert_into`."""
        make = self.maker(blocks)
        for block in blocks:
            for place in (block.attention_output, block.feed_forward_output):
                add_after(place, "adapter", make(block))

    @abstractmethod
    def maker(self, blocks: list[Block]) -> Callable[[Block], nn.Module]:
        """Return what makes a new adapter for one of `blocks`."""


@spec
class Houlsby(TwoAdapters):
    """The bottleneck adapters of Houlsby et al. 2019."""

    def maker(self, blocks: list[Block]) -> Callable[[Block], nn.Module]:
        """See `TwoAdapters.maker`."""
        return lambda block: Bottleneck(block.hidden, self.bottleneck, self.activation)


@spec
class Pfeiffer(Adapters):
    """One adapter a block, at its end: after the feed-forward network, residual and norm (Pfeiffer et al. 2021).

    As He et al. 2022 describe it (section 2.2); the norm that Pfeiffer et al. have after it as well is left out.
    """

    def insert_into(self, blocks: list[Block]) -> None:
        """See `BlockInsertion.insert_into`."""
        for block in blocks:
            add_after(block.module, "adapter", Bottleneck(block.hidden, self.bottleneck, self.activation))


@spec
class Parallel(Adapters):
    """One adapter a block, beside the feed-forward network (He et al. 2022, section 4.6)."""

    scaling: float = Field(default=4.0, gt=0)
    """Of what the adapter adds (the paper's s)."""

    def insert_into(self, blocks: list[Block]) -> None:
        """See `BlockInsertion.insert_into`."""
        for block in blocks:
            add_parallel(block, self.bottleneck, self.activation, self.scaling)


def add_parallel(block: Block, bottleneck: int, activation: Activation, scaling: float) -> None:
    """Put an adapter beside the feed-forward network of `block`."""
    adapter = ParallelBottleneck(block.hidden, bottleneck, activation, scaling)
    block.feed_forward_input.register_forward_pre_hook(adapter.take)
    add_after(block.feed_forward_output, "adapter", adapter)
