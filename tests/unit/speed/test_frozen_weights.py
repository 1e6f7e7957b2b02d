"""Frozen weights stored in bf16 give the same bits under autocast."""

import copy

import peft
import pytest
import torch
from torch import nn

from peftlab.speed.frozen_weights import store_in_bf16


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Embedding(10, 16), nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 3))
    layers[:3].requires_grad_(False)
    return layers


def test_the_same_bits_under_autocast(model):
    rounded = copy.deepcopy(model)
    assert store_in_bf16(rounded) == 1
    words = torch.arange(10)
    results = []
    for each in (model, rounded):
        with torch.autocast("cpu", torch.bfloat16):
            logits = each(words)
        logits.float().logsumexp(-1).sum().backward()
        results.append((logits, each[4].weight.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_weight_shared_with_an_embedding_stays(model):
    tied = nn.ModuleDict({"words": model[0], "decoder": nn.Linear(16, 10, bias=False)})
    tied["decoder"].weight = tied["words"].weight
    assert store_in_bf16(tied) == 0
    assert tied["words"].weight.dtype is torch.float32


def test_only_frozen_linear_layers_are_rounded(model):
    store_in_bf16(model)
    assert model[1].weight.dtype is model[1].bias.dtype is torch.bfloat16
    for kept in (model[0], model[2], model[4]):
        assert kept.weight.dtype is torch.float32


@pytest.mark.parametrize(("use_dora", "stored"), [(False, torch.bfloat16), (True, torch.float32)])
def test_a_weight_that_the_method_computes_with_stays(use_dora, stored):
    adapted = peft.get_peft_model(
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), peft.LoraConfig(target_modules=["0"], use_dora=use_dora)
    ).base_model.model
    store_in_bf16(adapted)
    assert adapted[0].base_layer.weight.dtype is stored
    assert adapted[1].weight.dtype is torch.bfloat16
