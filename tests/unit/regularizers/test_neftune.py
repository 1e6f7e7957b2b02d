"""Noise on embeddings: its scale, and where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from peftlab.regularizers.neftune import NefTune
from peftlab.tasks.batch import Batch


class Embedded(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding = nn.Embedding(4, hidden)

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, **_):
        return self.embedding(input_ids)


def test_the_noise_of_a_text_is_by_its_own_length_and_padding_has_none():
    lengths, model = (128, 16), Embedded(384)
    mask = torch.tensor([[1] * length + [0] * (128 - length) for length in lengths])
    batch = Batch(
        {"input_ids": torch.zeros(2, 128, dtype=torch.long), "attention_mask": mask},
        {},
        torch.ones(2, dtype=torch.float64),
        rows=torch.arange(2),
        examples=["a", "b"],
        tokens=144,
    )
    rule, clean = NefTune(alpha=5), model(**batch.inputs)
    torch.manual_seed(0)
    with rule.applied(model, batch):
        noise = (model(**batch.inputs) - clean).detach()
    assert torch.equal(model(**batch.inputs), clean)
    assert noise[1, 16:].abs().max() == 0
    for row, (length, bound) in enumerate(zip(lengths, (0.0226, 0.0638), strict=True)):
        own = noise[row, :length]
        assert float(own.abs().max()) == pytest.approx(bound, rel=0.01)
        assert float(own.std()) == pytest.approx(bound / 3**0.5, rel=0.05)
    assert float(rule.acted()["bound"]) == pytest.approx((0.0226 + 0.0638) / 2, rel=0.01)


def test_a_model_without_embeddings_is_refused():
    assert "no input embeddings" in NefTune().idle(nn.Linear(1, 1))
