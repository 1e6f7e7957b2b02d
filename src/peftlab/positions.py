"""How many tokens of a row a model has positions for.

Encoders with rotary or relative positions have no limit. A decoder with rotary ones computes beyond those that it was
pretrained with too, but writes nonsense there: its configuration names the limit.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from peftlab.errors import ConfigError
from peftlab.language_models import kind_of

POSITIONS = ("position_embeddings", "wpe", "embed_positions")
"""The names of position embeddings in the architectures."""


def positions(model: nn.Module) -> int | None:
    """Return the maximum number of tokens in a row; None for models without a limit."""
    tables = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in POSITIONS
    ]
    return min((table.num_embeddings - _unused(table) for table in tables), default=_rotary(model))


def _rotary(model: nn.Module) -> int | None:
    config: Any = getattr(model, "config", None)
    if config is None or kind_of(config) != "decoder":
        return None
    most: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return most


def _unused(table: nn.Embedding) -> int:
    """Return how many leading positions are unused: RoBERTa and BART start counting after them."""
    offset: int = getattr(table, "offset", 0)
    return offset or (0 if table.padding_idx is None else table.padding_idx + 1)


def check_length(model: nn.Module, longest: int, virtual_tokens: int = 0) -> None:
    """Check that `model` has enough positions for a row of `longest` tokens after `virtual_tokens`.

    Raises:
        ConfigError: it was pretrained with fewer.
    """
    most = positions(model)
    if most is not None and virtual_tokens + longest > most:
        virtual = f", and {virtual_tokens} virtual ones before them" if virtual_tokens else ""
        raise ConfigError(
            f"data.max_tokens: the model has {most} positions, and a row has {longest} tokens{virtual}; "
            f"set data.max_tokens={most - virtual_tokens}"
        )


def longest_row(model: nn.Module, max_tokens: int, virtual_tokens: int = 0) -> int:
    """Return the maximum number of tokens of a row: `max_tokens`, or as many as `model` has positions for."""
    most = positions(model)
    return max_tokens if most is None else min(max_tokens, most - virtual_tokens)
