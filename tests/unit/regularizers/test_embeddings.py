"""Perturbations are measured per example, whatever else is in its batch."""

from __future__ import annotations

import pytest
import torch
import transformers
from tests.unit.regularizers.conftest import batch_of
from torch import nn

from peftlab.regularizers.embeddings import Ball, changed, perturbed_positions
from peftlab.regularizers.fgm import Fgm
from peftlab.regularizers.mixup import Mixup
from peftlab.regularizers.neftune import NefTune

BATCH = batch_of([[0, 1], [2]])
GRADIENT = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[1e-30, 0.0], [0.0, 0.0]]])


def test_the_steepest_step_has_norm_one_for_each_example_or_token():
    sentence = Ball(1.0).steepest(GRADIENT, BATCH)
    torch.testing.assert_close(sentence, torch.tensor([[[0.6, 0.0], [0.0, 0.8]], [[1.0, 0.0], [0.0, 0.0]]]))
    assert Ball(1.0).norms(sentence, BATCH).tolist() == pytest.approx([1, 1])  # also of a gradient of fp16's size
    token = Ball(1.0, scope="token").steepest(GRADIENT, BATCH)
    torch.testing.assert_close(token, torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]]))
    linf = Ball(1.0, "linf").steepest(GRADIENT, BATCH)
    torch.testing.assert_close(linf, GRADIENT.sign())
    assert Ball(1.0, "linf").norms(linf, BATCH).tolist() == [1, 1]


def test_an_example_of_several_rows_has_one_norm():
    batch = batch_of([[0, 1], [2, 1]])
    batch.rows, batch.weights = torch.tensor([0, 0]), torch.ones(1, dtype=torch.float64)
    assert Ball(1.0).norms(GRADIENT, batch).tolist() == [5]
    torch.testing.assert_close(Ball(1.0).steepest(GRADIENT, batch), GRADIENT / 5)


def test_projections_end_on_the_ball_and_leave_what_is_inside():
    outside, inside = 3 * GRADIENT, GRADIENT / 100
    for ball in (Ball(0.5), Ball(0.5, scope="token"), Ball(0.5, "linf")):
        assert ball.norms(ball.projected(outside, BATCH), BATCH)[0].item() == pytest.approx(0.5)
        torch.testing.assert_close(ball.projected(inside, BATCH), inside)


def test_drawn_perturbations_are_in_the_ball_and_leave_padding():
    mask = perturbed_positions(BATCH)
    for ball in (Ball(0.5), Ball(0.5, scope="token"), Ball(0.5, "linf")):
        drawn = ball.drawn(GRADIENT, mask, BATCH)
        norms = ball.norms(drawn, BATCH)
        assert ((norms > 0) & (norms <= 0.5)).all()
        assert not drawn[1, 1].any()


def test_padding_and_special_tokens_are_not_perturbed():
    assert perturbed_positions(BATCH)[..., 0].tolist() == [[1, 1], [1, 0]]
    assert perturbed_positions(BATCH, torch.tensor([0, 2]))[..., 0].tolist() == [[0, 1], [0, 0]]


def test_only_the_first_use_of_shared_embeddings_is_changed(model):
    with changed(model, lambda embeddings: embeddings + 1):
        once, twice = model.embeddings(torch.tensor([0])), model.embeddings(torch.tensor([0]))
    assert (once.tolist(), twice.tolist()) == ([[2, 1]], [[1, 0]])
    assert model.embeddings(torch.tensor([0])).tolist() == [[1, 0]]


def test_of_tied_modules_the_one_that_the_model_runs_is_changed():
    """Encoder-decoder models of transformers name one that they never run; the decoder's is left as it is."""
    size = {"vocab_size": 8, "d_model": 4, "pad_token_id": 0, "decoder_start_token_id": 0, "dropout_rate": 0}
    for name in ("T5EncoderModel", "T5Model"):
        model = getattr(transformers, name)(
            transformers.T5Config(**size, d_kv=2, d_ff=4, num_layers=1, num_heads=2)
        ).eval()
        ids, outputs, seen = torch.tensor([[1, 2]]), [], []

        def change(embeddings, seen=seen):
            seen.append(embeddings.shape)
            return embeddings * torch.tensor([2.0, -1.0, 0.5, 1.0])

        inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if name == "T5Model" else {})
        outputs.append(model(**inputs)[0])
        with changed(model, change):
            outputs.append(model(**inputs)[0])
        outputs.append(model(**inputs)[0])
        assert seen == [(1, 2, 4)]
        assert torch.equal(outputs[0], outputs[2])
        assert not torch.allclose(outputs[0], outputs[1])


def test_a_model_that_names_no_embeddings():
    class Silent(nn.Module):
        def get_input_embeddings(self):
            raise NotImplementedError

    for model in (Silent(), nn.Linear(1, 1)):
        for rule in (Fgm(), Mixup(), NefTune()):
            assert "no input embeddings" in rule.idle(model)
