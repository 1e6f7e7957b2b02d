"""Models with a decoder, alone or after an encoder; those with a pretrained head generate text."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import GenerationMixin, PreTrainedModel

from peftlab.language_models import kind_of


def generates(model: nn.Module) -> bool:
    """Return whether `model` writes text token by token, from a cache of the keys and values so far."""
    return isinstance(model, GenerationMixin)


def has_decoder(model: nn.Module) -> bool:
    """Return whether the head of `model`, for words or labels, reads a decoder, whose tokens see none after them."""
    return isinstance(model, PreTrainedModel) and (is_encoder_decoder(model) or kind_of(model.config) == "decoder")


def is_encoder_decoder(model: Any) -> bool:
    """Return whether `model` has an encoder for its input, and a decoder that its head reads.

    An encoder-decoder's head for labels of tokens is on its encoder alone.
    """
    is_whole = isinstance(model, PreTrainedModel) and stack_of(model) is not model.base_model
    return is_whole and bool(model.config.is_encoder_decoder)


def has_windows(model: Any) -> bool:
    """Return whether `model` has a decoder in which a token of some blocks sees only the latest ones."""
    config = model.config
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    return has_decoder(model) and bool(getattr(config, "sliding_window", None)) and "sliding_attention" in kinds


def stack_of(model: Any) -> nn.Module:
    """Return the decoder of a model that has one: its embeddings and blocks, without the head."""
    stack: nn.Module = model.get_decoder()
    return stack


def seen_by(past: Any, *place: int) -> int:
    """Return the number of tokens in a cache, or None."""
    seen: int = 0 if past is None else past.get_seq_length(*place)
    return seen
