"""Privates of Transformers."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel


def attention_of(model: nn.Module) -> str:
    """Return the implementation of attention that `model` uses, such as ``sdpa``."""
    config: Any = model.config
    return config._attn_implementation


def has_sdpa(model: PreTrainedModel) -> bool:
    """Return whether the architecture of `model` supports torch's own attention."""
    return model._supports_sdpa


def draw_weights(model: PreTrainedModel, module: nn.Module) -> None:
    """Initialise the weights of `module` as the architecture of `model` does; loaded weights stay."""
    model._init_weights(module)
