"""How many tokens of a row a model has positions for.

Encoders with rotary or relative positions have no limit. A decoder with rotary ones computes beyond those that it was
pretrained with too, but writes nonsense there: its configuration names the limit.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from peftlab.errors import ConfigError
from peftlab.seams.transformers import kind_of

POSITIONS = ("position_embeddings", "wpe", "embed_positions")
"""The names of position embeddings in the architectures."""


def positions(model: nn.Module) -> int | None:
    """Return the maximum number of tokens in a row; None for models without a limit.

    A model that has no tables of its own, as it is computed elsewhere, says it by an attribute ``most_positions``.
    """
    if hasattr(model, "most_positions"):
        most: int | None = model.most_positions  # type: ignore[assignment]
        return most
    # an encoder of sounds reads no tokens; of an ensemble, the members have one
    hears = any(getattr(module, "main_input_name", "") == "input_features" for module in model.modules())
    tables = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and name.rpartition(".")[2] in POSITIONS
        and not (hears and "encoder" in name.split("."))
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


def reserve(model: Any, virtual_tokens: int) -> None:
    """Leave `virtual_tokens` of the positions of `model` to those that its method adds before every text."""
    model.reserved_positions = virtual_tokens


def reserved(model: Any) -> int:
    """Return how many positions of `model` no text can have."""
    count: int = getattr(model, "reserved_positions", 0)
    return count


def check_length(model: nn.Module, longest: int) -> None:
    """Check that `model` has enough positions for a row of `longest` tokens after its virtual ones.

    Raises:
        ConfigError: it was pretrained with fewer.
    """
    most, before = positions(model), reserved(model)
    if most is not None and before + longest > most:
        virtual = f", and {before} virtual ones before them" if before else ""
        raise ConfigError(
            f"data.max_tokens: the model has {most} positions, and a row has {longest} tokens{virtual}; "
            f"set data.max_tokens={most - before}"
        )


def longest_row(model: nn.Module, max_tokens: int) -> int:
    """Return the maximum number of tokens of a row: `max_tokens`, or as many as `model` has positions for."""
    most = positions(model)
    return max_tokens if most is None else min(max_tokens, most - reserved(model))
