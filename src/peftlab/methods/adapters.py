"""Bottleneck adapters: small networks parallel to or after the sub-layers of a frozen transformer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn
from transformers.activations import ACT2FN
from typing_extensions import override

from peftlab.methods.insertion import Block, BlockInsertion, add_after
from peftlab.methods.method import LARGEST, MethodContext, spec
from peftlab.methods.targets import target_modules

Activation = Literal["relu", "gelu", "silu", "tanh"]
"""The non-linearity between the two projections."""


class Bottleneck(nn.Module):
    """s W_up f(W_down h + b_down) + b_up (Houlsby et al. 2019, section 2.1; He et al. 2022, equation 4 and table 1).

    The up-projection is initialised to zero, so the model starts unchanged; Houlsby et al. use small random values.
    """

    def __init__(self, hidden: int, bottleneck: int, activation: Activation, scaling: float = 1.0) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(hidden, bottleneck), nn.Linear(bottleneck, hidden)
        self.activation, self.scaling = ACT2FN[activation], scaling
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return the update to the hidden states, with their shape (..., hidden)."""
        return self.scaling * self.up(self.activation(self.down(states)))


class ParallelBottleneck(Bottleneck):
    """A bottleneck on the input of a sub-layer, added to its output."""

    def take(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Keep the sub-layer's input for the call that follows; a pre-hook of its first layer."""
        self._input = inputs[0]

    def forward(self, output: Tensor) -> Tensor:
        """Return the update to the sub-layer's `output`."""
        states = self._input
        del self._input
        return super().forward(states)


@spec
class Adapters(BlockInsertion):
    """The common options of bottleneck adapters."""

    bottleneck: int = Field(gt=0, le=LARGEST)
    """The size between the two projections."""
    activation: Activation = "relu"
    """The non-linearity between the projections."""


@spec
class TwoAdapters(Adapters):
    """Two adapters per block, after attention and after the feed-forward network (Houlsby et al. 2019, figure 2).

    A block with two attentions, in the decoder of an encoder-decoder, has one after each.
    They see a sub-layer's output before dropout; in the paper, after it.
    """

    layer_norms: bool = True
    """Whether the blocks' normalisations are trained too (section 2.1)."""

    @override
    def insert(self, model: nn.Module, context: MethodContext) -> None:
        super().insert(model, context)
        if self.layer_norms:
            for name in target_modules(model, "layer_norms", context.not_adapted, self.layers):
                model.get_submodule(name).requires_grad_(True)

    @override
    def insert_into(self, blocks: list[Block]) -> None:
        make = self.maker(blocks)
        for block in blocks:
            for place in (*block.attention_outputs, block.feed_forward_output):
                add_after(place, "adapter", make(block))

    @abstractmethod
    def maker(self, blocks: list[Block]) -> Callable[[Block], nn.Module]:
        """Return a function that makes a new adapter for one of `blocks`."""


@spec
class Houlsby(TwoAdapters):
    """The bottleneck adapters of Houlsby et al. 2019."""

    @override
    def maker(self, blocks: list[Block]) -> Callable[[Block], nn.Module]:
        return lambda block: Bottleneck(block.hidden, self.bottleneck, self.activation)


@spec
class Pfeiffer(Adapters):
    """One adapter at the end of each block: after the feed-forward network, residual and norm (Pfeiffer et al. 2021).

    As in He et al. 2022 (section 2.2), without the second norm of Pfeiffer et al. after it.
    """

    @override
    def insert_into(self, blocks: list[Block]) -> None:
        for block in blocks:
            add_after(block.module, "adapter", Bottleneck(block.hidden, self.bottleneck, self.activation))


@spec
class Parallel(Adapters):
    """One adapter per block, parallel to the feed-forward network (He et al. 2022, section 4.6)."""

    scaling: float = Field(default=4.0, gt=0)
    """The factor on the adapter's output (the paper's s)."""

    @override
    def insert_into(self, blocks: list[Block]) -> None:
        for block in blocks:
            add_parallel(block, self.bottleneck, self.activation, self.scaling)


def add_parallel(block: Block, bottleneck: int, activation: Activation, scaling: float) -> None:
    """Insert an adapter parallel to the feed-forward network of `block`."""
    adapter = ParallelBottleneck(block.hidden, bottleneck, activation, scaling)
    block.feed_forward_input.register_forward_pre_hook(adapter.take)
    add_after(block.feed_forward_output, "adapter", adapter)
