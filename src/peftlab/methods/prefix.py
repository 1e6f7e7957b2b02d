"""Trained keys and values before those of the tokens, in attention that accepts past keys and values."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.adapters import Activation
from peftlab.methods.insertion import Insertion
from peftlab.methods.method import BESIDE_THE_FUNCTION, LARGEST, MethodContext, is_of_head, spec

KeysValues = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps the hidden states that attention sees, (batch, tokens, hidden), to its prefix's keys and values: each
(length, hidden), or (batch, length, hidden)."""


class Prefix(NamedTuple):
    """The ``past_key_values`` of attention; use leaves it unchanged, so it can be used again."""

    keys: Tensor
    values: Tensor

    def update(self, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values of shape (batch, heads, tokens, size) with the prefix prepended."""
        return _before(self.keys, keys), _before(self.values, values)


class PrefixLength(NamedTuple):
    """The ``past_key_values`` of an encoder, which make it count positions from the end of the prefix."""

    length: int

    def get_seq_length(self, *_: Any) -> int:
        """Return the length of the prefix."""
        return self.length


def _before(prefix: Tensor, states: Tensor) -> Tensor:
    batch, heads, _, size = states.shape
    prefix = prefix.to(states.dtype).reshape(*prefix.shape[:-1], heads, size).transpose(-3, -2)
    return torch.cat([prefix.expand(batch, *prefix.shape[-3:]), states], dim=2)


def attention_with_past(model: nn.Module, context: MethodContext, method: str) -> list[nn.Module]:
    """Return the attention modules of `model` that accept ``past_key_values``, in the order of the blocks.

    Raises:
        ConfigError: the model has none.
    """
    taking = [
        (name, module)
        for name, module in model.named_modules()
        if not is_of_head(name, context.head) and "attention" in name.lower() and _takes_past(module)
    ]
    innermost = [module for name, module in taking if not any(other.startswith(f"{name}.") for other, _ in taking)]
    if not innermost:
        raise ConfigError(
            f"peft={method}: the attention of {type(model).__name__} takes no earlier keys and values; it needs BERT, "
            "RoBERTa, XLM-RoBERTa, ELECTRA or another model whose attention does"
        )
    return innermost


def _takes_past(module: nn.Module) -> bool:
    return "past_key_values" in inspect.signature(module.forward).parameters


def add_prefix(encoder: nn.Module, attention: Sequence[tuple[nn.Module, KeysValues]], length: int) -> None:
    """Hook every module of `attention` so that its prefix of `length` tokens precedes the text.

    No hidden states are added: the outputs of `encoder` keep their shapes. Positions count from the end of the prefix,
    as in the peft library. Gradient checkpointing drops ``past_key_values`` from the blocks, so attention gets its own
    in any case.
    """
    encoder.register_forward_pre_hook(functools.partial(_lengthen, length), with_kwargs=True)
    for module, keys_values in attention:
        module.register_forward_pre_hook(functools.partial(_give, keys_values), with_kwargs=True)


def _lengthen(length: int, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask = kwargs.get("attention_mask")
    if mask is not None:
        kwargs = kwargs | {"attention_mask": torch.cat([mask.new_ones(len(mask), length), mask], dim=1)}
    return args, kwargs | {"past_key_values": PrefixLength(length)}


def _give(keys_values: KeysValues, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    states = args[0] if args else kwargs["hidden_states"]
    return args, kwargs | {"past_key_values": Prefix(*keys_values(states))}


class OwnPrefix(nn.Module):
    """The keys and values of one attention module (Li and Liang 2021, section 4.1), without reparametrisation."""

    def __init__(self, hidden: int, length: int, std: float) -> None:
        super().__init__()
        self.keys, self.values = (nn.Parameter(torch.randn(length, hidden) * std) for _ in range(2))

    def forward(self, _: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (length, hidden); see `KeysValues`."""
        return self.keys, self.values


@spec
class PrefixAndAdapter(Insertion):
    """The common options of methods with a prefix and an adapter in every block."""

    prefix: int = Field(gt=0, le=LARGEST)
    """The length of the prefix, in tokens."""
    prefix_std: Annotated[float, BESIDE_THE_FUNCTION] = Field(gt=0)
    """The standard deviation of its initial keys and values."""
    bottleneck: int = Field(gt=0, le=LARGEST)
    """The size between the adapter's two projections."""
    activation: Activation = "relu"
    """The non-linearity between the projections."""

    @property
    @override
    def virtual_tokens(self) -> int:
        return self.prefix
