"""Models that generate text: a decoder alone, or an encoder and a decoder."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import GenerationMixin


def generates(model: nn.Module) -> bool:
    """Return whether `model` writes text token by token, from a cache of the keys and values so far."""
    return isinstance(model, GenerationMixin)


def is_encoder_decoder(model: Any) -> bool:
    """Return whether `model`, which generates, reads its input with an encoder of its own."""
    return generates(model) and bool(model.config.is_encoder_decoder)


def has_windows(model: Any) -> bool:
    """Return whether `model` generates, and a token in some of its blocks sees only the latest ones."""
    config = model.config
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    return generates(model) and bool(getattr(config, "sliding_window", None)) and "sliding_attention" in kinds


def stack_of(model: Any) -> nn.Module:
    """Return the decoder of a model that generates: its embeddings and blocks, without the head."""
    stack: nn.Module = model.get_decoder()
    return stack


def seen_by(past: Any, *place: int) -> int:
    """Return the number of tokens in a cache, or None."""
    seen: int = 0 if past is None else past.get_seq_length(*place)
    return seen
