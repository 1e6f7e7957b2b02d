"""Which models can run as one, as far as can be said without running them."""

from __future__ import annotations

import torch
from transformers import SegformerConfig, SegformerForImageClassification

from peftlab.packing.joinable import is_joinable


def test_a_model_whose_sizes_are_lists_is_no_error():
    config = SegformerConfig(hidden_sizes=[8, 16], depths=[1, 1], num_attention_heads=[1, 2], num_encoder_blocks=2)
    with torch.device("meta"):
        model = SegformerForImageClassification(config)
    assert not is_joinable(model)  # all of it is trained
