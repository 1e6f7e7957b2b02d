"""What is added up of two models' passes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, BertModel

from peftlab.errors import ConfigError, UserError
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.use.differing.passes import Attended, Layer, Observed, plain_model
from peftlab.use.differing.representations import Comparison, Insertions, spread_over

LAYER = Layer("layer", 0)


class Classifies:
    """A task whose outputs are logits of labels, of which all rows but the last count."""

    head = SimpleNamespace(outputs="text")

    def distributions(self, outputs, batch):
        weights = torch.ones(len(outputs))
        weights[-1] = 0
        return Distributions(outputs, weights.long(), weights)


class Measures(Classifies):
    """A task without distributions."""

    def distributions(self, outputs, batch):
        raise ConfigError("none")


def added(task, one, other):
    comparison = Comparison(task, 3)
    comparison.add_logits(Observed(outputs=one), Observed(outputs=other), None)
    return comparison.logits()


def test_a_constant_on_all_logits_is_no_change():
    logits = torch.tensor([[2.0, -1, 0], [0.5, 0, 1], [9, 9, 9]])
    same = added(Classifies(), logits, logits + 7)
    assert same.shift == pytest.approx(0, abs=1e-6)
    assert same.agreement == 1
    moved = added(Classifies(), logits, logits + torch.tensor([[0, 4.0, 0], [0, 0, 0], [50, 0, 0]]))
    assert moved.shift == pytest.approx((4 / 3 + 8 / 3 + 4 / 3) / 3 / 2)  # of two rows that count
    assert moved.agreement == 0.5
    assert moved.size == pytest.approx(((5 / 3 + 4 / 3 + 1 / 3) / 3 + (0 + 0.5 + 0.5) / 3) / 2)


def test_what_is_no_candidate_does_not_count():
    logits = torch.tensor([[2.0, -1, -1e9], [0, 0, 0]])
    assert added(Classifies(), logits, logits + torch.tensor([1.0, 0, 0])).shift == pytest.approx(0.5)


def test_numbers_are_compared_as_they_are():
    found = added(Measures(), {"logits": torch.tensor([[1.0], [3.0]])}, {"logits": torch.tensor([[2.0], [3.0]])})
    assert (found.shift, found.size, found.agreement) == (0.5, 2.0, None)


def test_attention_to_virtual_tokens_is_left_out_of_the_divergence_and_shown():
    real = torch.tensor([[True, True, False]])
    plain = torch.tensor([[0.5, 0.5, 0], [0.25, 0.75, 0], [1, 0, 0]])[None, None]
    prefixed = torch.cat([torch.full((1, 1, 3, 2), 0.2), 0.6 * plain], -1)
    states = torch.randn(1, 3, 4)
    one, other = (
        Observed(states={LAYER: states}, real={LAYER: real}, attention={Attended(LAYER, False): weights})
        for weights in (plain, prefixed)
    )
    comparison, insertions = Comparison(Classifies(), 1), Insertions()
    comparison.add(one, other, None)
    insertions.add(other)
    (layer,) = comparison.layers()
    assert layer.attention == pytest.approx(0, abs=1e-6)
    assert layer.moved == 0
    assert insertions.to_virtual() == {LAYER: pytest.approx(0.4)}


def test_tokens_are_spread_evenly():
    assert spread_over(torch.arange(9), 3).tolist() == [0, 4, 8]
    assert spread_over(torch.arange(2), 3).tolist() == [0, 1]


def test_several_models_have_no_hidden_states_of_one():
    sizes = {"vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = BertModel(BertConfig(**sizes, intermediate_size=4))
    assert plain_model(torch.nn.ModuleDict({"inside": model})) is model
    with pytest.raises(UserError, match="2 models of transformers"):
        plain_model(torch.nn.ModuleList([model, BertModel(model.config)]))
    with pytest.raises(UserError, match="0 models of transformers"):
        plain_model(torch.nn.Linear(1, 1))
