"""Noise on gradients: its size, and that it is a function of the generator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from peftlab.regularizers.gradient_noise import GradientNoise


def noise(step, seed, **options):
    weights = {"w": nn.Parameter(torch.zeros(100, 200)), "unused": nn.Parameter(torch.zeros(3))}
    weights["w"].grad = torch.ones(100, 200)
    rule = GradientNoise(**options)
    rule.before_step(weights, step, torch.Generator().manual_seed(seed))
    assert weights["unused"].grad is None
    added = weights["w"].grad - 1
    assert rule.acted()["norm"] == pytest.approx(float(added.norm()), rel=1e-5)
    return added


def test_its_variance_fades():
    for step, variance in ((1, 0.3), (10, 0.3 / 10**0.55), (1000, 0.3 / 1000**0.55)):
        added = noise(step, 0, eta=0.3)
        assert float(added.var()) == pytest.approx(variance, rel=0.05)
        assert float(added.mean()) == pytest.approx(0, abs=4 * (variance / added.numel()) ** 0.5)


def test_it_is_a_function_of_the_generator():
    assert torch.equal(noise(1, 0), noise(1, 0))
    assert not torch.equal(noise(1, 0), noise(1, 1))


def test_noise_that_drowns_the_gradient_is_told(caplog):
    noise(2, 0, eta=1e6)
    noise(1, 0, eta=99.0)  # of 20,000 weights the norm of either grows with the root of their number
    assert caplog.text == ""
    noise(1, 0, eta=110.0)
    assert "its norm is 1.49e+03, and that of the gradient 141" in caplog.text
