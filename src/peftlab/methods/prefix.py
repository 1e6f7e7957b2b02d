"""Prefixes of keys and values before those of every token, in attention that knows of earlier keys and values."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from peftlab.errors import ConfigError
from peftlab.methods.adapters import Activation
from peftlab.methods.insertion import Insertion
from peftlab.methods.method import BESIDE_THE_FUNCTION, LARGEST, MethodContext, is_of_head, spec

KeysValues = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Makes of the hidden states that attention sees, (batch, tokens, hidden), its prefix's keys and values: each
(length, hidden), or (batch, length, hidden)."""


class Prefix(NamedTuple):
    """What attention takes as ``past_key_values``: it is not changed by being used, so that it can be used again."""

    keys: Tensor
    values: Tensor

    def update(self, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        """Return the prefix before keys and values of shape (batch, heads, tokens, size)."""
        return _before(self.keys, keys), _before(self.values, values)


class PrefixLength(NamedTuple):
    """What an encoder takes as ``past_key_values`` to count its positions from after the prefix."""

    length: int

    def get_seq_length(self, *_: Any) -> int:
        """Return the number of tokens before the first."""
        return self.length


def _before(prefix: Tensor, states: Tensor) -> Tensor:
    batch, heads, _, size = states.shape
    prefix = prefix.to(states.dtype).reshape(*prefix.shape[:-1], heads, size).transpose(-3, -2)
    return torch.cat([prefix.expand(batch, *prefix.shape[-3:]), states], dim=2)


def attention_with_past(model: nn.Module, context: MethodContext, method: str) -> list[nn.Module]:
    """Return the attention modules of `model` that take ``past_key_values``, in the order of the blocks.

    Raises:
        ConfigError: it has none.
    """
    taking = [
        (name, module)
        for name, module in model.named_modules()
        if not is_of_head(name, context.head) and "attention" in name.lower() and _takes_past(module)
    ]
    found = [module for name, module in taking if not any(other.startswith(f"{name}.") for other, _ in taking)]
    if not found:
        raise ConfigError(
            f"peft={method}: the attention of {type(model).__name__} takes no earlier keys and values; it needs BERT, "
            "RoBERTa, XLM-RoBERTa, ELECTRA or another model whose does"
        )
    return found


def _takes_past(module: nn.Module) -> bool:
    return "past_key_values" in inspect.signature(module.forward).parameters


def add_prefix(encoder: nn.Module, attention: Sequence[tuple[nn.Module, KeysValues]], length: int) -> None:
    """From now on every module of `attention` sees its prefix of `length` tokens before those of the text.

    No token's hidden state is added: the outputs of `encoder` keep their shapes. Positions count from after the prefix,
    as in the peft library. Gradient checkpointing takes ``past_key_values`` away from the blocks; attention is given
    its own in any case.
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
    """The keys and values of one attention module (Li and Liang 2021, section 4.1), without a reparametrisation."""

    def __init__(self, hidden: int, length: int, std: float) -> None:
        super().__init__()
        self.keys, self.values = (nn.Parameter(torch.randn(length, hidden) * std) for _ in range(2))

    def forward(self, _: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (length, hidden); see `KeysValues`."""
        return self.keys, self.values


@spec
class PrefixAndAdapter(Insertion):
    """What methods that put both of these into every block have in common."""

    prefix: int = Field(gt=0, le=LARGEST)
    """The length of the prefix, in tokens."""
    prefix_std: Annotated[float, BESIDE_THE_FUNCTION] = Field(gt=0)
    """The standard deviation with which its keys and values begin."""
    bottleneck: int = Field(gt=0, le=LARGEST)
    """The size between the adapter's two projections."""
    activation: Activation = "relu"
    """The non-linearity there."""

    @property
    def virtual_tokens(self) -> int:
        """See `Method.virtual_tokens`."""
        return self.prefix
