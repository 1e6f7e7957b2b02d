"""Trained keys and values before those of the tokens, in attention that accepts past keys and values."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EncoderDecoderCache
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.adapters import Activation
from peftlab.methods.generating import has_decoder, is_encoder_decoder, seen_by, stack_of
from peftlab.methods.head import is_of_head
from peftlab.methods.insertion import Insertion
from peftlab.methods.method import BESIDE_THE_FUNCTION, LARGEST, MethodContext, spec
from peftlab.methods.targets import is_attention

KeysValues = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps the hidden states that attention sees, (batch, tokens, hidden), to its prefix's keys and values: each
(length, size), or (batch, length, size), with the size of all its heads together."""


class Prefix(NamedTuple):
    """The ``past_key_values`` of attention; use leaves it unchanged, so it can be used again."""

    keys: Tensor
    values: Tensor
    past: Any = None
    """The cache of the tokens so far, which never holds the prefix; None where nothing is kept."""

    def update(self, keys: Tensor, values: Tensor, *place: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values of shape (batch, heads, tokens, size) with those so far and the prefix prepended."""
        if self.past is not None:
            keys, values = self.past.update(keys, values, *place)
        return _before(self.keys, keys), _before(self.values, values)

    def get_seq_length(self, *place: Any) -> int:
        """Return the number of keys before those of the next token."""
        seen: int = 0 if self.past is None else self.past.get_seq_length(*place)
        return self.keys.shape[-2] + seen


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


def attention_with_past(model: Any, context: MethodContext, method: str) -> list[nn.Module]:
    """Return the attention modules of `model` that accept ``past_key_values``, in the order of the blocks.

    Of an encoder-decoder, they are those of the decoder that attend to its own tokens.

    Raises:
        ConfigError: the model has none.
    """
    inside = stack_of(model) if has_decoder(model) else model
    taking = [
        (name, module)
        for name, module in inside.named_modules()
        if not is_of_head(name, context.head) and is_attention(name) and _takes(module, "past_key_values")
        if not (is_encoder_decoder(model) and re.search(r"enc\w*_?att|cross", name, re.IGNORECASE))
    ]
    innermost = [module for name, module in taking if not any(other.startswith(f"{name}.") for other, _ in taking)]
    if not innermost or not (has_decoder(model) or _takes(model.base_model, "past_key_values")):
        raise ConfigError(
            f"peft={method}: the attention of {type(model).__name__} takes no earlier keys and values; it needs BERT, "
            "RoBERTa, XLM-RoBERTa, ELECTRA, Llama, Qwen, Gemma, GPT-2, T5 or BART with their decoders, or another "
            "model whose attention does"
        )
    return innermost


def _takes(module: nn.Module, argument: str) -> bool:
    return argument in inspect.signature(module.forward).parameters


def heads_of_keys(model: Any) -> tuple[int, int]:
    """Return the number of heads that attention has keys and values for, and the size of each.

    Where several heads of queries share one of keys (Ainslie et al. 2023), these are fewer.
    """
    config = model.config
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    return getattr(config, "num_key_value_heads", None) or heads, size


def add_prefix(model: Any, attention: Sequence[tuple[nn.Module, KeysValues]], length: int) -> None:
    """Hook every module of `attention` so that its prefix of `length` tokens precedes the text.

    No hidden states are added: outputs keep their shapes. Positions count from the end of the prefix, as in the peft
    library. Gradient checkpointing drops ``past_key_values`` from the blocks, so attention gets its own in any case.

    In a model with a decoder, the cache holds no prefix: it precedes what the cache returns, at every step. So every
    token sees it, whichever others its mask hides: those of other texts in its row, or outside a sliding window.
    """
    give: Any = _give_before_past if has_decoder(model) else _give
    if has_decoder(model):
        stack = stack_of(model)
        numbered = stack if _takes(stack, "position_ids") else getattr(stack, "embed_positions", None)
        if numbered is not None:  # T5's positions are relative: attention counts the prefix by itself
            numbered.register_forward_pre_hook(functools.partial(_shift, length), with_kwargs=True)
    else:
        model.base_model.register_forward_pre_hook(functools.partial(_lengthen, length), with_kwargs=True)
    for module, keys_values in attention:
        module.register_forward_pre_hook(functools.partial(give, keys_values), with_kwargs=True)


def _lengthen(length: int, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask = kwargs.get("attention_mask")
    if mask is not None:
        kwargs = kwargs | {"attention_mask": torch.cat([mask.new_ones(len(mask), length), mask], dim=1)}
    return args, kwargs | {"past_key_values": PrefixLength(length)}


def _give(keys_values: KeysValues, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    states = args[0] if args else kwargs["hidden_states"]
    return args, kwargs | {"past_key_values": Prefix(*keys_values(states))}


def _shift(length: int, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Count the positions of the tokens from the end of the prefix."""
    numbers = kwargs.get("position_ids")
    if numbers is None:
        tokens = next(
            each for each in (kwargs.get("input_ids"), kwargs.get("inputs_embeds"), *args) if each is not None
        )
        numbers = torch.arange(tokens.shape[1], device=tokens.device)[None] + seen_by(kwargs.get("past_key_values"))
    return args, kwargs | {"position_ids": numbers + length}


def _give_before_past(
    keys_values: KeysValues, attention: nn.Module, args: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    states = args[0] if args else kwargs["hidden_states"]
    past = kwargs.get("past_key_values")
    past = past.self_attention_cache if isinstance(past, EncoderDecoderCache) else past
    prefix = Prefix(*keys_values(states), past)
    key = "mask" if _takes(attention, "mask") else "attention_mask"
    mask, tokens = kwargs.get(key), states.shape[1]
    if mask is None and tokens > 1:  # each token sees those before it, which with a prefix nothing but a mask can say
        seen = seen_by(past, getattr(attention, "layer_idx", 0))
        mask = states.new_ones(tokens, seen + tokens, dtype=torch.bool).tril(seen)[None, None]
    if mask is not None:  # True, or an addend of 0: visible
        mask = F.pad(mask, (prefix.keys.shape[-2], 0), value=mask.dtype == torch.bool)
    return args, kwargs | {"past_key_values": prefix, key: mask}


class OwnPrefix(nn.Module):
    """The keys and values of one attention module (Li and Liang 2021, section 4.1), without reparametrisation."""

    def __init__(self, size: int, length: int, std: float) -> None:
        super().__init__()
        self.keys, self.values = (nn.Parameter(torch.randn(length, size) * std) for _ in range(2))

    def forward(self, _: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (length, size); see `KeysValues`."""
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
