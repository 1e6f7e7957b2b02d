"""Positions of vision transformers for pictures of another size."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.vision_models import CONFIGS
from transformers import AutoModelForImageClassification

from peftlab.images.positions import interpolate_positions, settle_positions

LARGER = torch.linspace(-1, 1, 2 * 3 * 24 * 24).reshape(2, 3, 24, 24).cos()


@pytest.mark.parametrize("family", ["vit", "siglip", "dinov2", "convnext"])
def test_they_are_interpolated_and_for_good(family):
    torch.manual_seed(0)
    model = AutoModelForImageClassification.from_config(CONFIGS[family]()).eval()
    plain, settled = copy.deepcopy(model), copy.deepcopy(model)
    interpolate_positions(model)
    settle_positions(settled, 24)
    with torch.no_grad():
        expected = plain(LARGER, **({"interpolate_pos_encoding": True} if family in ("vit", "siglip") else {})).logits
        assert torch.equal(model(LARGER).logits, expected)
        torch.testing.assert_close(settled(LARGER).logits, expected)
        own = LARGER[..., :16, :16]
        assert torch.equal(model(own).logits, plain(own).logits)
    again = type(settled)(settled.config)
    again.load_state_dict(settled.state_dict())
    torch.testing.assert_close(again.eval()(LARGER).logits, expected)
