"""The mix-and-match adapter: a prefix in attention, and an adapter beside the feed-forward network."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from peftlab.methods.adapters import Activation, add_parallel
from peftlab.methods.insertion import Insertion, encoder_blocks
from peftlab.methods.method import MethodContext, spec
from peftlab.methods.prefix import OwnPrefix, add_prefix, attention_with_past


@spec
class MixAndMatch(Insertion):
    """He et al. 2022, section 4.6: a short prefix, and most of the parameters in a scaled parallel adapter.

    The prefix is trained as it is, where the paper's comes out of a network.
    """

    prefix: int = Field(gt=0)
    """The length of the prefix, in tokens."""
    prefix_std: float = Field(gt=0)
    """The standard deviation with which its keys and values begin."""
    bottleneck: int = Field(gt=0)
    """The size between the adapter's two projections."""
    activation: Activation = "relu"
    """The non-linearity there."""
    scaling: float = Field(default=4.0, gt=0)
    """Of what the adapter adds (the paper's s)."""

    @property
    def virtual_tokens(self) -> int:
        """See `Method.virtual_tokens`."""
        return self.prefix

    def insert(self, model: Any, context: MethodContext) -> None:
        """See `Insertion.insert`."""
        places = attention_with_past(model, context, self.name)
        found = encoder_blocks(model, context)
        prefixes = [OwnPrefix(block.hidden, self.prefix, self.prefix_std) for block in found]
        for place, prefix in zip(places, prefixes, strict=True):
            place.add_module("prefix", prefix)
        add_prefix(model.base_model, list(zip(places, prefixes, strict=True)), self.prefix)
        for block in found:
            add_parallel(block, self.bottleneck, self.activation, self.scaling)
