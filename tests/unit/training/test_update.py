"""The update that the device itself leaves out: as torch makes it, and not at all where it is not finite."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from peftlab.errors import OutOfMemoryError
from peftlab.training.stepping import Stepping
from peftlab.training.update import Rates, cannot_skip, check, prepare, skipping

FUSED = {
    "adamw": lambda groups: torch.optim.AdamW(groups, weight_decay=0.1, fused=True),
    "adam": lambda groups: torch.optim.Adam(groups, amsgrad=True, fused=True),
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=True),
    "plain sgd": lambda groups: torch.optim.SGD(groups, fused=True),
}


def parameters():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2))]


def grouped(weights):
    return [{"params": weights[:1], "lr": 0.1}, {"params": weights[1:], "lr": 0.03}]


def gradients(seed, bad=False):
    random = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(3, 2, generator=random), torch.randn(2, generator=random)]
    if bad:
        drawn[1][0] = torch.nan
    return drawn


def state(optimizer):
    return [value for of_weight in optimizer.state.values() for value in of_weight.values()]


@pytest.mark.parametrize("name", FUSED)
def test_a_step_that_is_not_finite_is_as_if_it_had_not_been(name):
    """The first one too, and with learning rates from the device; the others have the bits of ordinary steps."""
    plain, skipped = parameters(), parameters()
    ordinary, optimizer = FUSED[name](grouped(plain)), FUSED[name](grouped(skipped))
    assert cannot_skip(optimizer) is None
    prepare(optimizer)
    rates = Rates(optimizer)
    for number, bad in enumerate([True, False, True, True, False, False]):
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        drawn = gradients(number, bad)
        for weight, gradient in zip(skipped, drawn, strict=True):
            weight.grad = gradient.clone()
        norm, left_out = check(skipped)
        assert left_out == bad
        assert norm.isnan() == bad
        rates.renew()
        with rates.used(), skipping(optimizer, left_out):
            optimizer.step()
        if not bad:
            for group, same in zip(ordinary.param_groups, optimizer.param_groups, strict=True):
                group["lr"] = same["lr"]
            for weight, gradient in zip(plain, drawn, strict=True):
                weight.grad = gradient
            ordinary.step()
        assert all(map(torch.equal, plain, skipped))
    assert all(isinstance(group["lr"], float) for group in optimizer.param_groups)
    assert all(torch.equal(*both) for both in zip(state(optimizer), state(ordinary), strict=True))
    assert not hasattr(optimizer, "found_inf")


def test_weights_that_are_not_finite_leave_a_step_out():
    weights = parameters()
    for weight, gradient in zip(weights, gradients(0), strict=True):
        weight.grad = gradient
    assert check(weights)[1] == 0
    with torch.no_grad():
        weights[0][0, 0] = torch.inf
    norm, left_out = check(weights)
    assert left_out == 1
    assert norm.isfinite()


def test_rates_times_a_factor_are_for_the_block_alone():
    optimizer = FUSED["adamw"](grouped(parameters()))
    rates = Rates(optimizer)
    rates.renew()
    with rates.used(torch.tensor(0.0)):
        assert [float(group["lr"]) for group in optimizer.param_groups] == [0.0, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.03]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (torch.optim.AdamW, "without optimizer.algorithm.fused=true"),
        (torch.optim.Adafactor, "Adafactor cannot"),
        (lambda groups: torch.optim.SGD(groups, momentum=0.9, dampening=0.1, fused=True), "dampening"),
    ],
)
def test_what_cannot_leave_a_step_out_says_why(make, reason):
    assert reason in cannot_skip(make(grouped(parameters())))


def test_a_state_that_is_there_stays():
    weights = parameters()
    optimizer = FUSED["sgd"](grouped(weights))
    for weight, gradient in zip(weights, gradients(0), strict=True):
        weight.grad = gradient
    optimizer.step()
    before = copy.deepcopy(state(optimizer))
    prepare(optimizer)
    assert all(torch.equal(*both) for both in zip(state(optimizer), before, strict=True))


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), OutOfMemoryError),
        (RuntimeError("no such kernel"), RuntimeError),
    ],
)
def test_memory_that_the_state_of_an_optimiser_lacks_has_its_advice(error, raised):
    class Greedy(torch.optim.SGD):
        def step(self, closure=None):
            raise error

    tuner = SimpleNamespace(
        trainer=SimpleNamespace(optimizers=[Greedy(parameters(), lr=0.1)]),
        effects=SimpleNamespace(pending=["one"]),
        recording=SimpleNamespace(rates=nullcontext),
        settle=lambda: None,
        _begin=lambda parts: None,
    )
    with pytest.raises(raised) as caught:
        Stepping.take_step(tuner, [])
    assert ("optimizer=adafactor" in str(caught.value)) == (raised is OutOfMemoryError)
    assert "more" not in str(caught.value)
