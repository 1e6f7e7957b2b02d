"""Models that run as one: which steps they refuse, and go on."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from peftlab.models.positions import reserve
from peftlab.packing.joint_model import JointModel
from peftlab.packing.rows import NeverJoinableError, NotJoinableError
from peftlab.packing.run_context import RandomStates

POSITIONS = 32


@pytest.fixture
def models():
    """Two GPT-2s, which call their positions by a name of their own, with the same weights but for a trained bias."""
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 1}
    first, second = (GPT2LMHeadModel(GPT2Config(**sizes, n_positions=POSITIONS)) for _ in range(2))
    for own, other in zip(first.parameters(), second.parameters(), strict=True):
        other.requires_grad_(False).data = own.requires_grad_(False).data
    for model in (first, second):
        model.transformer.h[0].ln_1.bias = torch.nn.Parameter(torch.randn(16))
    return [first.eval(), second.eval()]


def batch(tokens):
    ids = torch.arange(2 * tokens).view(2, tokens) % 50
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_rows_longer_than_the_model_has_positions_are_refused_for_a_step(models):
    """On a GPU, a position that the model does not have would end the process."""
    for virtual in (0, 16):  # before every text; rows as long as a size of the model are made longer
        for model in models:
            reserve(model, virtual)
        joint = JointModel(models, [RandomStates(), RandomStates()])
        longest = POSITIONS - virtual
        with pytest.raises(NotJoinableError, match=f"padded to {longest + 1} tokens") as error:
            joint([batch(longest), batch(5)])
        assert not isinstance(error.value, NeverJoinableError)
        assert [outputs.logits.shape[1] for outputs in joint([batch(12), batch(5)])] == [12, 5]
