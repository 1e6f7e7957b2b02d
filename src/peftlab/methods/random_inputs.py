"""Inputs that look like a model's own and mean nothing, for a pass that only asks what depends on what."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from peftlab.methods.generating import is_encoder_decoder


def random_inputs(model: Any) -> dict[str, Tensor]:
    """Return two rows of random words, or two random pictures, drawn from the present state of torch's generator."""
    config = model.config
    if reads_pictures(model):
        config = getattr(config, "vision_config", config)
        return {"pixel_values": torch.randn(2, config.num_channels, config.image_size, config.image_size)}
    ids = torch.randint(config.vocab_size, (2, 8))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return inputs | ({"decoder_input_ids": ids} if is_encoder_decoder(model) else {})


def reads_pictures(model: Any) -> bool:
    """Return whether the input of `model` are pictures."""
    return getattr(model, "main_input_name", None) == "pixel_values"
