"""Inserts small trainable modules into a frozen model, at places found in the model itself."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.method import BESIDE_THE_FUNCTION, Method, MethodContext, spec
from peftlab.methods.targets import Layers, check_layers, is_attention, target_modules


class Block(NamedTuple):
    """One of the repeated blocks of a transformer's encoder or decoder (Vaswani et al. 2017, section 3.1)."""

    module: nn.Module
    attention_outputs: list[nn.Module]
    """The output projection of each attention, to the hidden size, before the residual connection: of the tokens to
    themselves, and in the decoder of an encoder-decoder of its tokens to the encoder's."""
    feed_forward_input: nn.Module
    """The first layer of the feed-forward network, with inputs of the hidden size."""
    feed_forward_output: nn.Module
    """The last layer of the feed-forward network, with outputs of the hidden size."""

    @property
    def hidden(self) -> int:
        """The size of the hidden states."""
        return outputs_of(self.feed_forward_output)


def transformer_blocks(model: nn.Module, context: MethodContext, layers: Layers = None) -> list[Block]:
    """Return the blocks of `model` that `layers` selects, in order.

    Raises:
        ConfigError: they do not consist of attention and a feed-forward network with one hidden size.
    """
    attention = target_modules(model, "attention", context.not_adapted, layers)
    feed_forward = target_modules(model, "mlp", context.not_adapted, layers)
    blocks = []
    for name in dict.fromkeys(_block_around(layer, feed_forward) for layer in attention):
        last = {_attention_around(layer, name): layer for layer in attention if layer.startswith(f"{name}.")}
        linear = [layer for layer in feed_forward if layer.startswith(f"{name}.")]
        outputs, ends = ([model.get_submodule(layer) for layer in some] for some in ([*last.values()], linear))
        if not ends or {outputs_of(each) for each in (*outputs, ends[-1])} != {inputs_of(ends[0])}:
            raise ConfigError(
                f"peft: {name} of {type(model).__name__} is no block of attention and a feed-forward network, which "
                "this method needs, as those of BERT, RoBERTa, DeBERTa, ModernBERT, Llama, Qwen, GPT-2, T5 or BART"
            )
        blocks.append(Block(model.get_submodule(name), outputs, ends[0], ends[-1]))
    return blocks


def _block_around(layer: str, feed_forward: Sequence[str]) -> str:
    """Return the innermost numbered module around `layer` with a feed-forward network too; if none, the innermost."""
    parts = layer.split(".")
    around = [".".join(parts[: n + 1]) for n in range(len(parts) - 1, -1, -1) if parts[n].isdigit()]
    return next((name for name in around if any(each.startswith(f"{name}.") for each in feed_forward)), around[0])


def _attention_around(layer: str, block: str) -> str:
    """Return the outermost module of attention in `block` around `layer`."""
    parts = layer.removeprefix(f"{block}.").split(".")
    return ".".join(parts[: next(n for n, part in enumerate(parts, 1) if is_attention(part))])


def inputs_of(layer: Any) -> int:
    """Return the number of inputs of a linear layer."""
    size: int = layer.nx if isinstance(layer, Conv1D) else layer.in_features
    return size


def outputs_of(layer: Any) -> int:
    """Return the number of outputs of a linear layer."""
    size: int = layer.nf if isinstance(layer, Conv1D) else layer.out_features
    return size


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
    added.is_added = True  # type: ignore[assignment]


def additions(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose outputs `add_after` has had added to hidden states, by name."""
    return {name: module for name, module in model.named_modules() if getattr(module, "is_added", False)}


def _plus_own(name: str, place: nn.Module, _: Any, output: Any) -> Any:
    states = output if isinstance(output, Tensor) else output[0]
    states = states + place.get_submodule(name)(states)
    return states if isinstance(output, Tensor) else (states, *output[1:])


@spec
class Insertion(Method):
    """A method that inserts modules into a frozen model and trains them with the head."""

    host_work: ClassVar[str | None] = None
    not_averaged: ClassVar[str | None] = None

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
        self.insert_into(transformer_blocks(model, context, self.layers))

    @abstractmethod
    def insert_into(self, blocks: list[Block]) -> None:
        """Insert the method's modules into the selected `blocks`."""
