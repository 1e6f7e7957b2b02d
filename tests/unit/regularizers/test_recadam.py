"""The pull of RecAdam by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from peftlab.regularizers.recadam import RecAdam

GENERATOR = torch.Generator()


def test_the_pull_fades_along_a_sigmoid():
    weights = {"w": nn.Parameter(torch.tensor([1.0])), "other": nn.Parameter(torch.tensor([1.0]))}
    rule = RecAdam(strength=2.0, k=0.5, t0=10)
    rule.begin(weights)
    for step in (1, 10, 14, 100):
        with torch.no_grad():
            weights["w"].fill_(3)
            weights["other"].fill_(3)
        rule.before_step(weights, step, GENERATOR)
        rule.after_step(weights, {"w": 0.1, "other": 0.01})
        learning = 1 / (1 + math.exp(-0.5 * (step - 10)))
        assert rule.acted() == pytest.approx({"weights": 2, "recalling": 1 - learning})
        assert weights["w"].item() == pytest.approx(3 - 0.1 * (1 - learning) * 2 * 2)
        assert weights["other"].item() == pytest.approx(3 - 0.01 * (1 - learning) * 2 * 2)


def test_it_goes_no_further_than_to_the_start():
    weights = {"w": nn.Parameter(torch.tensor([1.0]))}
    rule = RecAdam(strength=5000.0, k=0.05, t0=1e6)
    rule.begin(weights)
    with torch.no_grad():
        weights["w"].fill_(3)
    rule.before_step(weights, 1, GENERATOR)
    rule.after_step(weights, {"w": 0.01})
    assert weights["w"].item() == 1
