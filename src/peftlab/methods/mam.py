"""The mix-and-match adapter: a prefix in attention, and an adapter parallel to the feed-forward network."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from typing_extensions import override

from peftlab.methods.adapters import add_parallel
from peftlab.methods.insertion import transformer_blocks
from peftlab.methods.method import MethodContext, spec
from peftlab.methods.prefix import OwnPrefix, PrefixAndAdapter, add_prefix, attention_with_past, heads_of_keys


@spec
class MixAndMatch(PrefixAndAdapter):
    """He et al. 2022, section 4.6: a short prefix, and most of the parameters in a scaled parallel adapter.

    The prefix is trained directly; in the paper, a network generates it.
    """

    scaling: float = Field(default=4.0, gt=0)
    """The factor on the adapter's output (the paper's s)."""

    @override
    def insert(self, model: Any, context: MethodContext) -> None:
        places = attention_with_past(model, context, self.name)
        heads, size = heads_of_keys(model)
        prefixes = [OwnPrefix(heads * size, self.prefix, self.prefix_std) for _ in places]
        for place, prefix in zip(places, prefixes, strict=True):
            place.add_module("prefix", prefix)
        add_prefix(model, list(zip(places, prefixes, strict=True)), self.prefix)
        for block in transformer_blocks(model, context):
            add_parallel(block, self.bottleneck, self.activation, self.scaling)
