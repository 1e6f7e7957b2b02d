"""Passes that are repeated with changed embeddings, and gradients that are computed on the way."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.utils import ModelOutput

from peftlab.regularizers.repeatable import RepeatablePass
from peftlab.tasks.batch import Batch

IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]])
BATCH = Batch({"input_ids": IDS}, {}, torch.ones(2), torch.arange(2), ["one", "other"], tokens=8)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.layer, self.head = nn.Embedding(8, 16), nn.Linear(16, 16), nn.Linear(16, 1)
        self.dropout = nn.Dropout(0.5)
        self.lowered: set[bool] = set()
        """Whether autocast was on in a backward pass, where it gives some products other types than in a plain one."""

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids):
        states = self.dropout(self.layer(self.words(input_ids)).tanh())
        states.register_hook(lambda _: self.lowered.add(torch.is_autocast_enabled("cpu")))
        return ModelOutput(logits=self.head(states).sum((1, 2)).float())


@pytest.fixture
def model():
    return Model()


def first_pass(model, **options):
    return RepeatablePass(model, lambda batch: model(**batch.inputs), BATCH, list(model.parameters()), **options)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_the_gradient_of_the_weights_is_that_of_a_plain_pass_to_the_bit(model, precision):
    gradients = []
    for plain in (True, False):
        torch.manual_seed(1)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            if plain:
                loss = model(IDS).logits.pow(2).mean()
            else:
                first = first_pass(model)
                loss = first.differentiate(first.outputs.logits.pow(2).mean(), keep_graph=False)
        gradients.append([loss.detach(), *torch.autograd.grad(loss, model.parameters())])
    assert all(map(torch.equal, *gradients))
    assert model.lowered == {False}


def test_a_pass_is_repeated_with_its_own_dropout(model):
    first = first_pass(model)
    after = torch.get_rng_state()
    assert torch.equal(first.repeat(torch.zeros_like(first.like)).logits, first.outputs.logits)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("at", ["the start", "a perturbation", "a perturbation, the weights aside"])
def test_a_gradient_that_overflows_spoils_that_of_the_total_and_not_the_loss(model, at):
    """As where fp16's loss scale is too large still: the step is left out then, and the run goes on."""
    for scale in (torch.tensor(8.0), torch.tensor(torch.inf)):
        first = first_pass(model, loss_scale=scale)
        loss = first.outputs.logits.pow(2).mean()
        if at == "the start":
            loss = first.differentiate(loss, keep_graph=False)
            gradient = first.gradient
        elif at == "a perturbation":
            losses, gradient = first.differentiated_at(torch.zeros_like(first.like), lambda outputs: outputs.logits)
            loss = loss + losses.mean()
        else:
            gradient = first.gradient_at(torch.zeros_like(first.like), lambda outputs: outputs.logits)
        total = first.spoilt(loss)
        assert total.isfinite()
        assert gradient.isfinite().all()
        of_weights = torch.autograd.grad(total, model.parameters(), allow_unused=True)
        assert all(own.isfinite().all() == scale.isfinite() for own in of_weights if own is not None)


class Sums(nn.Module):
    """A model with weights that are added to each other, as a token and its place are where there is one of both."""

    def __init__(self):
        super().__init__()
        self.words, self.weight, self.twin = nn.Embedding(8, 4), *(nn.Parameter(torch.ones(4)) for _ in range(2))
        self.repeated = nn.Parameter(torch.ones(4))

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids):
        logits = self.words(input_ids).sum(1) @ (self.weight + self.twin)
        return ModelOutput(logits=logits + self.repeated.sum())


def test_gradients_that_share_their_memory_are_scaled_once():
    """Autograd may give one tensor, or one expanded number, for the gradients of several weights."""
    model = Sums()
    first = first_pass(model)
    loss = first.differentiate(first.outputs.logits.pow(2).mean(), keep_graph=False)
    found = torch.autograd.grad(loss / 2, model.parameters())
    plain = torch.autograd.grad(model(IDS).logits.pow(2).mean() / 2, model.parameters())
    torch.testing.assert_close(found, plain)
