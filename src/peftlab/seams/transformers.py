"""Privates of Transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, masking_utils


def attention_of(model: nn.Module) -> str:
    """Return the implementation of attention that `model` uses, such as ``sdpa``."""
    config: Any = model.config
    return config._attn_implementation


def has_sdpa(model: PreTrainedModel) -> bool:
    """Return whether the architecture of `model` supports torch's own attention."""
    return model._supports_sdpa


def has_head(auto: Any, config: PretrainedConfig) -> bool:
    """Return whether one of transformers' auto classes has a class for models with this configuration."""
    return type(config) in getattr(auto, "_model_mapping", [type(config)])


def draw_weights(model: PreTrainedModel, module: nn.Module) -> None:
    """Initialise the weights of `module` as the architecture of `model` does; loaded weights stay."""
    model._init_weights(module)


@contextmanager
def masks_always_built() -> Iterator[None]:
    """Have models build attention masks in this context without looking at what a batch holds.

    Otherwise they read from the device whether any token is padding, and leave the mask out if none is. They build it
    always while a CUDA graph is captured, and are made to believe so.
    """
    before = masking_utils.is_tracing
    masking_utils.is_tracing = lambda tensor=None: True
    try:
        yield
    finally:
        masking_utils.is_tracing = before
