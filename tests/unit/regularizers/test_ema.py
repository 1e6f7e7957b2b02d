"""The exponential moving average of weights, by hand."""

from __future__ import annotations

import pytest
import torch

from peftlab.regularizers.ema import Ema


def test_the_average_by_hand_and_over_a_resumption():
    weights = {"w": torch.tensor([1.0]), "moved": torch.tensor([3])}
    rule = Ema(decay=0.5, warmup=False)
    rule.begin(weights)
    weights["w"].fill_(2)
    rule.after_step(weights, 1, 9)
    assert rule.averaged() == {"w": torch.tensor([1.5])}  # a counter is not averaged
    resumed = Ema(decay=0.5, warmup=False)
    resumed.load_state(rule.state())
    weights["w"].fill_(3)
    resumed.after_step(weights, 2, 9)
    assert resumed.averaged() == {"w": torch.tensor([2.25])}
    assert rule.averaged() == {"w": torch.tensor([1.5])}
    assert weights["w"] == 3


def test_the_first_steps_follow_the_weights_more_closely():
    decays = [Ema(decay=0.9).decay_of(step) for step in (1, 8, 79, 80, 1000)]
    assert decays == pytest.approx([2 / 11, 0.5, 80 / 89, 0.9, 0.9])
    assert Ema(decay=0.999, warmup=False).decay_of(1) ** 189 == pytest.approx(0.83, abs=0.005)


def test_small_steps_of_half_precision_are_not_lost():
    weights = {"w": torch.ones(1, dtype=torch.bfloat16)}
    rule = Ema(decay=0.999, warmup=False)
    rule.begin(weights)
    weights["w"].fill_(2)
    for step in range(1, 101):
        rule.after_step(weights, step, 100)
    assert float(rule.averaged()["w"]) == pytest.approx(2 - 0.999**100, rel=1e-5)
