"""The intervention of LoReFT, by its equation in double precision."""

from __future__ import annotations

import pytest
import torch

from peftlab.methods.reft import LowRankIntervention


@pytest.mark.parametrize("tokens", [None, 2])
def test_a_small_edit_is_not_lost_in_mixed_precision(tokens):
    """W begins as R, and what sets them apart after some steps is below the rounding of bf16."""
    torch.manual_seed(0)
    intervention, states = LowRankIntervention(64, 4, tokens), torch.randn(2, 5, 64)
    with torch.no_grad():
        intervention.source.weight.add_(1e-4 * torch.randn(4, 64))
        weight, rotation, own = (each.double() for each in (intervention.source.weight, intervention.rotation, states))
        expected = (own @ weight.T - own @ rotation.T) @ rotation
        with torch.autocast("cpu", torch.bfloat16):
            edit = intervention(states)
    shown = slice(tokens)
    assert edit.dtype == states.dtype
    torch.testing.assert_close(edit[:, shown].double(), expected[:, shown], rtol=1e-2, atol=1e-6)
    assert not edit[:, tokens or 5 :].any()
