"""How outputs of several models are mixed, against what probabilities say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers.modeling_outputs import TokenClassifierOutput

from peftlab.errors import UserError
from peftlab.tasks.networks.heads import REGRESSION, TOKEN_CLASSIFICATION
from peftlab.tasks.outputs.deferred_logits import DeferredLogits
from peftlab.tasks.outputs.mixing import Members, Mixture


def logits(*shape, models=3, scale=3.0):
    generator = torch.Generator().manual_seed(sum(shape))
    return [scale * torch.randn(shape, generator=generator) for _ in range(models)]


WEIGHTS = [0.5, 0.2, 0.3]


def test_probabilities_are_averaged_and_far_ones_do_not_overflow():
    each = [*logits(4, 5, models=2), 1000 * torch.eye(5)[:4]]
    expected = sum(weight * one.double().softmax(-1) for weight, one in zip(WEIGHTS, each, strict=True))
    torch.testing.assert_close(Mixture(WEIGHTS).softmax(each).double().softmax(-1), expected, atol=1e-6, rtol=1e-5)


def test_a_temperature_divides_the_logits_of_the_average():
    each = logits(4, 5)
    mean = Mixture(WEIGHTS).softmax(each).softmax(-1)
    expected = (mean.log() / 2).softmax(-1)
    torch.testing.assert_close(Mixture(WEIGHTS, temperature=2.0).softmax(each).softmax(-1), expected)
    labels = sum(weight * one.sigmoid() for weight, one in zip(WEIGHTS, each, strict=True))
    expected = torch.special.logit(labels) / 2
    torch.testing.assert_close(Mixture(WEIGHTS, temperature=2.0).sigmoid(each), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("weights", [[1 / 3] * 3, [0.45, 0.25, 0.3]])
def test_a_vote_counts_classes_and_the_mean_decides_ties(weights):
    each = logits(200, 4)
    votes = np.zeros((200, 4))
    for weight, one in zip(weights, each, strict=True):
        votes[np.arange(200), one.argmax(-1).numpy()] += weight
    mean = sum(weight * one.softmax(-1) for weight, one in zip(weights, each, strict=True)).numpy()
    best = votes >= votes.max(-1, keepdims=True) - 1e-9
    assert (best.sum(-1) > 1).any() == (len(set(weights)) == 1)
    winners = np.where(best, mean, -1).argmax(-1)
    assert Mixture(weights, "vote").softmax(each).argmax(-1).tolist() == winners.tolist()
    of_labels = Mixture(weights, "vote").sigmoid(each)
    for_it = sum(weight * (one > 0) for weight, one in zip(weights, each, strict=True))
    assert ((of_labels > 0) == (for_it > 0.5)).all()


def test_numbers_cannot_be_voted_on():
    outputs = [TokenClassifierOutput(logits=one) for one in logits(4, 1)]
    torch.testing.assert_close(Mixture([1 / 3] * 3).of_head(outputs, REGRESSION).logits, sum(logits(4, 1)) / 3)
    with pytest.raises(UserError, match="average them"):
        Mixture([1 / 3] * 3, "vote").of_head(outputs, REGRESSION)


def test_logits_over_a_vocabulary_stay_deferred():
    heads, states = [nn.Linear(size, 7) for size in (3, 5)], [torch.randn(2, 4, size) for size in (3, 5)]
    deferred = [DeferredLogits(state, head, head) for state, head in zip(states, heads, strict=True)]
    mixture = Mixture([0.4, 0.6])
    mixed = mixture.softmax(deferred)
    assert isinstance(mixed, DeferredLogits)
    torch.testing.assert_close(mixed.full, mixture.softmax([one.full for one in deferred]))


def test_embeddings_are_given_only_if_they_are_one():
    class Model(nn.Module):
        def __init__(self, table):
            super().__init__()
            self.table, self.config = table, SimpleNamespace()

        def get_input_embeddings(self):
            return self.table

    table = nn.Embedding(3, 2)
    mix = lambda outputs, mixture: mixture.of_head(outputs, TOKEN_CLASSIFICATION)  # noqa: E731
    assert Members([Model(table), Model(table)], Mixture([0.5, 0.5]), mix).get_input_embeddings() is table
    with pytest.raises(UserError, match="of their own"):
        Members([Model(table), Model(nn.Embedding(3, 2))], Mixture([0.5, 0.5]), mix).get_input_embeddings()
