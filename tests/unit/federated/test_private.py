"""What a client sends has a bounded part in the shared weights, and their mean has noise."""

from __future__ import annotations

import numpy as np
import torch

from peftlab.federated.private import ClientPrivacy, NoisyMean, sampling
from peftlab.federated.spec import FederatedSpec
from peftlab.federated.split import drawn
from peftlab.privacy.guarantee import Guarantee

START = {"w": torch.ones(40, 50), "b": torch.zeros(7), "frozen": torch.full((3,), 2.0)}
MOVING = ["w", "b"]


def privacy(noise=1e-9, norm=0.5, rate=0.1, clients=50):
    return ClientPrivacy(Guarantee(1.0, 1e-3, noise, norm, rate, 4, "client", clients, "by hand"), b"secret")


def changed(scale, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {name: tensor + scale * torch.randn(tensor.shape, generator=draw) for name, tensor in START.items()}


def length(weights, of=MOVING):
    return float(torch.cat([(weights[name] - START[name]).flatten() for name in of]).norm())


def mean_of(*clients, rate=1.0, round_=0, **options):
    mean = NoisyMean(START, MOVING, privacy(**options), round_, rate)
    for each in clients:
        mean.add(each)
    return mean


def test_a_client_moves_the_weights_by_its_change_but_no_further_than_the_norm_over_the_expected_number():
    near, far = changed(1e-3), changed(1e3)
    moved = mean_of(near).result()
    torch.testing.assert_close(moved["w"] - 1, (near["w"] - 1) / 5, rtol=1e-3, atol=1e-6)
    mean = mean_of(far)
    moved = mean.result()
    assert mean.clipped == 1
    assert abs(length(moved) - 0.5 / 5) < 1e-5
    cosine = torch.cosine_similarity((moved["w"] - 1).flatten(), (far["w"] - 1).flatten(), 0)
    assert cosine > 0.999
    assert torch.equal(moved["frozen"], START["frozen"]), "what is not trained stays, whatever is sent"
    assert abs(length(mean_of(far, rate=0.5).result()) - 0.25 / 5) < 1e-5


def test_one_that_is_not_finite_counts_as_none():
    for value in (torch.inf, torch.nan):
        broken = {**changed(1e-3), "b": torch.full((7,), value)}
        mean = mean_of(broken, changed(1e-3))
        assert mean.clipped == 1
        torch.testing.assert_close(mean.result(), mean_of(changed(1e-3)).result())


def test_the_noise_has_its_deviation_and_is_that_of_the_round_alone():
    first, again, second = (mean_of(noise=3.0, round_=n).result() for n in (0, 0, 1))
    noise = first["w"] - 1
    assert abs(float(noise.std()) / (3 * 0.5 / 5) - 1) < 0.06
    assert torch.equal(first["w"], again["w"])
    assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), (second["w"] - 1).flatten()]))[0, 1])) < 0.1


def test_each_client_is_drawn_on_its_own():
    spec = FederatedSpec(clients=200, rounds=300, local_epochs=1, fraction=0.3)
    names = [str(number) for number in range(200)]
    poisson = sampling(dict.fromkeys(names), spec)
    poisson = type(poisson)(poisson.units, poisson.rate, poisson.steps, seed=5)
    joins = np.zeros((300, 200))
    for round_ in range(300):
        joins[round_, drawn(names, spec, round_, 0, poisson)] = 1
    assert abs(joins.mean() - 0.3) < 0.01
    assert abs(joins.sum(1).var() / (200 * 0.3 * 0.7) - 1) < 0.3, "their number is binomial, and not fixed"
    assert {len(drawn(names, spec, round_, 0)) for round_ in range(9)} == {60}
