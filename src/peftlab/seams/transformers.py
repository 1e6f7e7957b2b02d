"""Privates of Transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, masking_utils
from transformers.models.auto import modeling_auto

ModelKind = Literal["encoder", "decoder", "encoder-decoder"]
"""Whether a pretrained model reads texts, continues them, or writes others."""


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


def kind_of(config: PretrainedConfig) -> ModelKind:
    """Return the kind of the model with this configuration.

    A decoder is what transformers has a class for that continues texts, but none that fills gaps in them: an encoder
    such as BERT has both, and sees what comes after unless its configuration makes it a decoder.
    """
    if config.is_encoder_decoder:
        return "encoder-decoder"
    continues = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    fills = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "decoder" if continues and (not fills or getattr(config, "is_decoder", False)) else "encoder"


def draw_weights(model: PreTrainedModel, module: nn.Module) -> None:
    """Initialise the weights of `module` as the architecture of `model` does; loaded weights stay."""
    model._init_weights(module)


def save_as_it_is(model: Any) -> None:
    """Have `model` saved with the names of its tensors, whatever those were that it was loaded from."""
    model._weight_conversions = None


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
