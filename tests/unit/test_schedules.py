from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from peftlab.schedules import Constant, Cosine, Linear, WarmupStableDecay

TOTAL = 200
LR = 3e-3


def rates(schedule, total=TOTAL, lr=LR):
    """The learning rate of every optimiser step, as a share of the highest."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = schedule.attach(optimizer, total)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"] / lr)
        optimizer.step()
        scheduler.step()
    return found


def linear(t, warmup):
    return min(t / warmup if warmup else 1, (TOTAL - t) / (TOTAL - warmup))


def cosine(t, warmup, least=0.0):
    if t < warmup:
        return t / warmup
    return least + (1 - least) * math.cos(math.pi / 2 * (t - warmup) / (TOTAL - warmup)) ** 2


def stable(t, warmup, decay, least=0.0):
    if t < warmup:
        return t / warmup
    if t <= TOTAL - decay:
        return 1
    return least + (1 - least) * math.sin(math.pi / 2 * (TOTAL - t) / decay) ** 2


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        (Linear(warmup_steps=20), lambda t: linear(t, 20)),
        (Linear(warmup_fraction=0.25), lambda t: linear(t, 50)),
        (Linear(warmup_steps=0), lambda t: linear(t, 0)),
        (Linear(), lambda t: linear(t, 0)),
        (Cosine(warmup_steps=20), lambda t: cosine(t, 20)),
        (Cosine(warmup_fraction=0.1, min_factor=0.3), lambda t: cosine(t, 20, 0.3)),
        (Cosine(), lambda t: cosine(t, 0)),
        (Constant(warmup_steps=20), lambda t: min(1, t / 20)),
        (Constant(warmup_fraction=0.0), lambda t: 1),
        (Constant(), lambda t: 1),
        (WarmupStableDecay(warmup_steps=20), lambda t: stable(t, 20, 40)),
        (WarmupStableDecay(warmup_fraction=0.1, decay_fraction=0.5), lambda t: stable(t, 20, 100)),
        (WarmupStableDecay(warmup_steps=20, min_factor=0.3), lambda t: stable(t, 20, 40, 0.3)),
        (WarmupStableDecay(decay_fraction=0.0), lambda t: 1),
        (WarmupStableDecay(warmup_fraction=0.25, decay_fraction=0.75), lambda t: stable(t, 50, 150)),
    ],
    ids=lambda value: "formula" if callable(value) else str(value),
)
def test_every_step_has_the_rate_of_the_formula(schedule, factor):
    assert rates(schedule) == pytest.approx([factor(t) for t in range(TOTAL)], abs=1e-12)


@pytest.mark.parametrize("schedule", [Linear, Cosine, Constant, WarmupStableDecay])
class TestWarmup:
    def test_steps_and_a_fraction_contradict_each_other(self, schedule):
        with pytest.raises(ValidationError, match="give warmup_steps or warmup_fraction, not both"):
            schedule(warmup_steps=10, warmup_fraction=0.1)
        with pytest.raises(ValidationError, match="not both"):
            schedule(warmup_steps=0, warmup_fraction=0.0)

    def test_the_fraction_is_of_all_steps(self, schedule):
        assert schedule(warmup_fraction=0.1).warmup(1000) == 100
        assert schedule(warmup_fraction=0.1).warmup(14) == 1
        assert schedule(warmup_steps=7).warmup(1000) == 7
        assert schedule().warmup(1000) == 0

    @pytest.mark.parametrize("options", [{"warmup_steps": -1}, {"warmup_fraction": 1.1}, {"warmup_step": 3}])
    def test_values_that_mean_nothing_are_refused(self, schedule, options):
        with pytest.raises(ValidationError):
            schedule(**options)

    def test_a_warmup_longer_than_the_run_just_rises(self, schedule):
        assert rates(schedule(warmup_steps=2 * TOTAL)) == pytest.approx([t / (2 * TOTAL) for t in range(TOTAL)])


def test_a_decay_that_would_begin_in_the_warmup_begins_after_it():
    found = rates(WarmupStableDecay(warmup_steps=180, decay_fraction=0.5))
    assert found[:180] == pytest.approx([t / 180 for t in range(180)])
    assert found[180:] == pytest.approx([stable(t, 180, 20) for t in range(180, TOTAL)])


def test_fractions_that_are_more_than_the_run():
    with pytest.raises(ValidationError, match="warmup_fraction and decay_fraction are more than 1 together"):
        WarmupStableDecay(warmup_fraction=0.6, decay_fraction=0.5)


@pytest.mark.parametrize("schedule", [Cosine, WarmupStableDecay])
def test_the_last_rate_is_the_least(schedule):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = schedule(min_factor=0.3).attach(optimizer, TOTAL)
    for _ in range(TOTAL):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3 * LR)
