"""A smaller architecture: layers, attention heads and feed-forward rows of the pretrained model are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import nn
from transformers import PreTrainedModel
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.feature_maps import check_takes_maps
from peftlab.methods.method import BESIDE_THE_FUNCTION, Method, MethodContext, spec
from peftlab.methods.slices import Kind, keep_layers, layers_of, units
from peftlab.methods.targets import Layers, blocks, check_layers

WIDTHS = "widths_before"
"""The attribute of a block with the number of its units, by kind, before any were cut out."""


@spec
class Sliced(Method):
    """Train every weight of what is left of the model (Sajjad et al. 2023, "On the Effect of Dropping Layers").

    Layers are numbered as in the pretrained model. The tensors of an adapter are all weights of the smaller model, so
    that it does not matter to an adapter which layers, heads and rows they once were.
    """

    layers: Annotated[Layers, BESIDE_THE_FUNCTION] = "every:2"
    """The blocks to keep: ``every:N``, ``first:N``, ``last:N``, numbers from 0, or None for all."""
    heads: Annotated[dict[int, list[int]], BESIDE_THE_FUNCTION] = Field(default_factory=dict)
    """The attention heads to keep, numbers from 0, by the layer's number; of grouped queries, groups. A layer that is
    not named keeps all."""
    ffn: Annotated[dict[int, int], BESIDE_THE_FUNCTION] = Field(default_factory=dict)
    """How many rows of the feed-forward layers to keep, the first ones, by the layer's number. A layer that is not
    named keeps all."""
    mergeable: ClassVar[bool] = True
    host_work: ClassVar[str | None] = None
    rewrites: ClassVar[str | None] = "it trains them"
    not_averaged: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        """Check that the selections are well-formed."""
        check_layers(self.layers)
        for layer, heads in self.heads.items():
            if not heads or heads != sorted(set(heads)) or heads[0] < 0:
                raise ConfigError(
                    f"peft.heads.{layer}={heads}: name at least one head, each once, in ascending order from 0"
                )
        for layer, rows in self.ffn.items():
            if rows < 1:
                raise ConfigError(f"peft.ffn.{layer}={rows}: at least one row of a layer is kept")

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Cut the layers, heads and rows that are not kept out of `model`, and train the rest.

        Raises:
            ConfigError: the model has no such layers, heads or rows, or is of a form that they cannot be cut out of.
        """
        check_takes_maps(model, "SLICED", self.name)
        kept = {number for _, number in blocks(model, self.layers, context.head)}
        chosen: dict[Kind, Mapping[int, Any]] = {"heads": self.heads, "ffn": self.ffn}
        for kind, by_layer in chosen.items():
            if gone := sorted(by_layer.keys() - kept):
                raise ConfigError(
                    f"peft.{kind}.{gone[0]}: layer {gone[0]} is not kept; peft.layers={self.layers} keeps "
                    f"{', '.join(map(str, sorted(kept)))}"
                )
            for layer, wanted in by_layer.items():
                _cut(model, kind, layer, wanted if kind == "heads" else range(wanted), context)
        keep_layers(model, self.layers, context.head)
        return model.requires_grad_(True)

    @override
    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return `model`; heads and rows that were cut out come back as zeros.

        transformers builds all layers of a model with the same number of heads and rows. With zeros in the place of
        those that are gone, such a model computes the same; it is as large as before.
        """
        assert isinstance(model, PreTrainedModel)
        for block in model.modules():
            for kind, count in getattr(block, WIDTHS, {}).items():
                present = units(block, kind)
                assert present is not None
                present.widen(count)
        return model


def _cut(model: nn.Module, kind: Kind, layer: int, chosen: Any, context: MethodContext) -> None:
    """Leave the `chosen` units of a kind in a layer, and note in it how many it had."""
    block = layers_of(model, context.head)[layer]
    present = units(block, kind)
    what = {"heads": "heads", "ffn": "feed-forward rows"}[kind]
    if present is None:
        raise ConfigError(
            f"peft.{kind}: the {what} of {type(model).__name__} cannot be cut out; set peft.{kind}={{}}, and leave out "
            "whole layers with peft.layers"
        )
    if chosen[-1] >= present.count:
        raise ConfigError(f"peft.{kind}.{layer}: layer {layer} has {present.count} {what}, numbered from 0")
    widths: dict[str, int] = getattr(block, WIDTHS, {})
    setattr(block, WIDTHS, {**widths, kind: present.count})
    present.keep(chosen)
