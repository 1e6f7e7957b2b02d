"""Inserts small trainable modules into a frozen model, at places found in the model itself."""

from __future__ import annotations

import functools
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, NamedTuple

from torch import Tensor, nn
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.method import BESIDE_THE_FUNCTION, Method, MethodContext, spec
from peftlab.methods.targets import Layers, check_layers, target_modules


class Block(NamedTuple):
    """One of the repeated blocks of a transformer encoder (Vaswani et al. 2017, section 3.1)."""

    module: nn.Module
    attention_output: nn.Linear
    """The attention's output projection, to the hidden size, before the residual connection."""
    feed_forward_input: nn.Linear
    """The first layer of the feed-forward network, with inputs of the hidden size."""
    feed_forward_output: nn.Linear
    """The last layer of the feed-forward network, with outputs of the hidden size."""

    @property
    def hidden(self) -> int:
        """The size of the hidden states."""
        return self.feed_forward_output.out_features


def encoder_blocks(model: nn.Module, context: MethodContext, layers: Layers = None) -> list[Block]:
    """Return the blocks of `model` that `layers` selects, in order.

    Raises:
        ConfigError: they do not consist of attention and a feed-forward network with one hidden size.
    """
    attention = _by_block(model, target_modules(model, "attention", context.not_adapted, layers))
    feed_forward = _by_block(model, target_modules(model, "mlp", context.not_adapted, layers))
    blocks = []
    for name in attention:
        linear = [attention[name][-1], feed_forward.get(name, [None])[0], feed_forward.get(name, [None])[-1]]
        block = Block(model.get_submodule(name), *linear)
        if None in linear or not block.attention_output.out_features == block.feed_forward_input.in_features == (
            block.hidden
        ):
            raise ConfigError(
                f"peft: {name} of {type(model).__name__} is no block of attention and a feed-forward network; this "
                "method needs a transformer encoder, such as BERT, RoBERTa, DeBERTa, DistilBERT or ModernBERT"
            )
        blocks.append(block)
    return blocks


def _by_block(model: nn.Module, names: list[str]) -> dict[str, list[Any]]:
    """Group the modules called `names` by the innermost repeated block that holds them."""
    modules: dict[str, list[Any]] = {}
    for name in names:
        parts = name.split(".")
        last = max(n for n, part in enumerate(parts) if part.isdigit())
        modules.setdefault(".".join(parts[: last + 1]), []).append(model.get_submodule(name))
    return modules


def add_after(place: nn.Module, name: str, added: nn.Module) -> None:
    """Make `added` the child `name` of `place`, whose hidden states h become h + added(h).

    Raises:
        ConfigError: another method has already done so.
    """
    if name in dict(place.named_children()):
        raise ConfigError(
            f"peft: another method already has its {name} in a {type(place).__name__}, where this one needs its own; "
            "combine methods that do not adapt the same places"
        )
    place.add_module(name, added)
    place.register_forward_hook(functools.partial(_plus_own, name))


def _plus_own(name: str, place: nn.Module, _: Any, output: Any) -> Any:
    states = output if isinstance(output, Tensor) else output[0]
    states = states + place.get_submodule(name)(states)
    return states if isinstance(output, Tensor) else (states, *output[1:])


@spec
class Insertion(Method):
    """A method that inserts modules into a frozen model and trains them with the head."""

    host_work: ClassVar[str | None] = None

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Freeze all but the head, and insert the method's modules.

        Raises:
            ConfigError: the model has no place for them.
        """
        model.requires_grad_(False)
        for name in context.head:
            model.get_submodule(name).requires_grad_(True)
        self.insert(model, context)
        return model

    @abstractmethod
    def insert(self, model: nn.Module, context: MethodContext) -> None:
        """Insert the method's modules into `model`."""


@spec
class BlockInsertion(Insertion):
    """A method that inserts its modules into selected blocks."""

    layers: Annotated[Layers, BESIDE_THE_FUNCTION] = None
    """The repeated blocks to adapt: ``last:N``, ``first:N``, numbers from 0, or None for all."""

    def __post_init__(self) -> None:
        """Check that `layers` is well-formed."""
        check_layers(self.layers)

    @override
    def insert(self, model: nn.Module, context: MethodContext) -> None:
        self.insert_into(encoder_blocks(model, context, self.layers))

    @abstractmethod
    def insert_into(self, blocks: list[Block]) -> None:
        """Insert the method's modules into the selected `blocks`."""
