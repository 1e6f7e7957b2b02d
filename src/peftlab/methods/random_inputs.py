"""Inputs that look like a model's own and mean nothing, for a pass that only asks what depends on what."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from peftlab.methods.generating import is_encoder_decoder


def random_inputs(model: Any) -> dict[str, Tensor]:
    """Return two rows of random words, or two random pictures or sounds, drawn from the present state of torch's
    generator."""
    config = model.config
    if reads_pictures(model):
        config = getattr(config, "vision_config", config)
        return {"pixel_values": torch.randn(2, config.num_channels, config.image_size, config.image_size)}
    if reads_sounds(model):
        return _sounds(model)
    ids = torch.randint(config.vocab_size, (2, 8))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return inputs | ({"decoder_input_ids": ids} if is_encoder_decoder(model) else {})


def _sounds(model: Any) -> dict[str, Tensor]:
    config = model.config
    if model.main_input_name == "input_features":  # two frames a position
        inputs = {"input_features": torch.randn(2, config.num_mel_bins, 2 * config.max_source_positions)}
        ids = torch.randint(config.vocab_size, (2, 8))
        return inputs | ({} if model.get_output_embeddings() is None else {"decoder_input_ids": ids})
    if hasattr(config, "inputs_to_logits_ratio"):
        return {"input_values": torch.randn(2, 16 * config.inputs_to_logits_ratio)}
    return {"input_values": torch.randn(2, config.max_length, config.num_mel_bins)}


def reads_sounds(model: Any) -> bool:
    """Return whether the input of `model` are samples or spectrograms."""
    return getattr(model, "main_input_name", None) in ("input_values", "input_features")


def reads_pictures(model: Any) -> bool:
    """Return whether the input of `model` are pictures."""
    return getattr(model, "main_input_name", None) == "pixel_values"
