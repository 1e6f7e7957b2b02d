"""Mixout is dropout on what has been learnt: its mean, its variance, and on which weights."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from peftlab.regularizers.mixout import Mixout
from peftlab.speed.lora import fuse_lora


def trained_of(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def passes(rule, model, x, count):
    with torch.no_grad():
        outputs = []
        for _ in range(count):
            with rule.applied(model, None):
                outputs.append(model(x))
    return torch.stack(outputs)


def learn(model, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in trained_of(model).values():
            weight.add_(torch.randn_like(weight))


@pytest.mark.exhaustive
def test_the_mean_is_the_weights_and_the_variance_that_of_dropout_on_what_was_learnt():
    model, p = nn.Linear(3, 3, bias=False), 0.7
    start, x = model.weight.detach().clone(), torch.eye(3)
    rule = Mixout(p=p)
    rule.begin(model, trained_of(model))
    assert torch.equal(passes(rule, model, x, 1)[0], model(x))  # nothing has been learnt
    learn(model)
    learnt = (model.weight.detach() - start).T
    weights = passes(rule, model, x, 10_000)
    torch.testing.assert_close(weights.mean(0), model(x).detach(), rtol=0, atol=0.1)
    torch.testing.assert_close(weights.var(0), p / (1 - p) * learnt.pow(2), rtol=0.1, atol=1e-6)
    assert list(trained_of(model)) == ["weight"]
    assert rule.acted() == {"weights": 9}
    assert torch.equal(model(x), nn.functional.linear(x, model.weight))


@pytest.mark.parametrize("fused", [True, False])
def test_of_lora_the_product_is_mixed(fused):
    p = 0.5
    model = get_peft_model(
        nn.Sequential(nn.Linear(3, 4, bias=False)), LoraConfig(r=1, lora_alpha=2, target_modules=["0"])
    )
    if fused:
        assert fuse_lora(model) == 1
    rule = Mixout(p=p)
    rule.begin(model, trained_of(model))
    learn(model)
    x = torch.eye(3)
    layer = model.base_model.model[0]
    update = (2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach().T
    found = passes(rule, model, x, 100) - layer.base_layer(x).detach()
    kept = found.abs() > 1e-6
    torch.testing.assert_close(found[kept], (kept * update / (1 - p))[kept], rtol=1e-4, atol=1e-5)
    assert 0.45 < kept.float().mean() < 0.55
    assert len({tuple(mask.flatten().tolist()) for mask in kept}) > 90  # each entry by itself: rank 1 no more
    assert rule.acted() == {"weights": 12}
    with rule.applied(model, None):
        model(x).sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in trained_of(model).values())


def test_a_product_goes_back_to_that_of_the_start():
    """As where LoRA begins with an adapter, or with singular vectors of the weights."""
    model = get_peft_model(nn.Sequential(nn.Linear(3, 4)), LoraConfig(r=2, target_modules=["0"]))
    learn(model)
    rule, x = Mixout(p=0.5), torch.eye(3)
    rule.begin(model, trained_of(model))
    start = model(x).detach()
    torch.testing.assert_close(passes(rule, model, x, 1)[0], start)
    learn(model, seed=1)
    found = passes(rule, model, x, 50)
    at_start = torch.isclose(found, start, atol=1e-5)
    assert 0.4 < at_start.float().mean() < 0.6


def test_tied_weights_are_mixed_alike():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    rule = Mixout(p=0.5)
    rule.begin(model, trained_of(model))
    learn(model)
    with rule.applied(model, None):
        assert model[0].weight is model[1].weight
        assert model[0].weight is not model[0]._parameters["weight"]
