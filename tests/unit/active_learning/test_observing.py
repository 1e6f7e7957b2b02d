"""What the head reads, found among what all layers take and give."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from peftlab.active_learning.observing import _as_in_training, _embeddings


def test_an_embedding_is_a_row_for_each_example():
    """Also where a prompt is answered at one token, and where a decoder gives logits at all of them."""
    batch, states, weight = SimpleNamespace(), torch.randn(3, 4), torch.randn(4, 2)
    logits = states @ weight
    for inputs, output in ((states, logits), (states[:, None], logits), (states[:, None], logits[:, None])):
        found = _embeddings([(torch.randn(3, 4), torch.randn(3, 2)), (inputs, output)], logits, batch)
        assert torch.equal(torch.from_numpy(found), states)


def test_draws_of_a_model_on_the_cpu_leave_the_gpus_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    model, before = torch.nn.Dropout(), torch.get_rng_state()
    with _as_in_training(model, [0, 1]):
        assert model.training
        torch.rand(1)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), before)
