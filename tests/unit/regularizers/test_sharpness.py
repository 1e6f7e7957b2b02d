"""SAM and its adaptive variant, against pytorch_optimizer."""

from __future__ import annotations

import pytest
import torch
from pytorch_optimizer import SAM
from torch import nn

from peftlab.regularizers.asam import Asam
from peftlab.regularizers.sam import Sam


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_steps_are_those_of_pytorch_optimizer(adaptive):
    def made():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(8, 3)

    theirs, x = made()
    optimizer = SAM(theirs.parameters(), torch.optim.SGD, rho=0.5, adaptive=adaptive, lr=0.1)
    for _ in range(3):
        theirs(x).pow(2).mean().backward()
        optimizer.first_step(zero_grad=True)
        theirs(x).pow(2).mean().backward()
        optimizer.second_step(zero_grad=True)

    ours, x = made()
    rule = Asam(radius=0.5, eta=1e-9) if adaptive else Sam(radius=0.5)  # theirs has no eta
    sgd = torch.optim.SGD(ours.parameters(), lr=0.1)

    def ask():
        sgd.zero_grad()
        loss = ours(x).pow(2).mean()
        loss.backward()
        return loss.detach()

    for _ in range(3):
        rule.gradient(ask, list(ours.parameters()))
        sgd.step()
    start, _ = made()
    for own, other, first in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(own, first, atol=1e-3)


def test_the_worst_weights_are_nearer_where_weights_are_small():
    weight = nn.Parameter(torch.tensor([3.0, 0.0]))
    asked = []

    def ask():
        asked.append(weight.detach().clone())
        weight.grad = torch.ones(2)
        return torch.tensor(0.0)

    rule = Asam(radius=1.0, eta=1.0)
    rule.gradient(ask, [weight])
    # T = (4, 1), T g = (4, 1) of norm sqrt(17), T^2 g = (16, 1)
    torch.testing.assert_close(asked[1], torch.tensor([3 + 16 / 17**0.5, 1 / 17**0.5]))
    assert weight.tolist() == [3, 0]
    assert float(rule.acted()["distance"]) == pytest.approx(1)
