"""RecAdam: the pull to the start of training fades along a sigmoid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from peftlab.regularizers.anchored import Anchored
from peftlab.regularizers.regularizer import WeightRule, spec


@spec
class RecAdam(Anchored, WeightRule):
    """Moves every trained weight towards its start, ever less: ``w -= lr * (1 - l) * strength * (w - w0)``.

    In step t, l is ``1 / (1 + exp(-k * (t - t0)))``, the share of learning as against recalling (Chen et al. 2020,
    section 3). As in the paper's optimiser, the pull is decoupled from Adam's step; it goes to the start at most. The
    paper also multiplies the task's own step by l, that is, it learns nothing long before `t0`; here that is left to
    the schedule.
    """

    strength: float = Field(default=5000.0, ge=0, allow_inf_nan=False)
    """The paper's gamma, for learning rates about 5e-5: times the learning rate, it should be below 1."""
    k: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    """How abruptly the pull ends, 0.05 to 1 in the paper."""
    t0: float = Field(default=250.0, ge=0, allow_inf_nan=False)
    """The step in which it has fallen to half, 100 to 1000 in the paper."""
    recalling: float = field(default=0.0, init=False)
    """The factor ``1 - l`` of the current step."""
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0}
    host_work: ClassVar[str | None] = "the strength of its pull is another number in each step"

    @override
    def begin(self, weights: Mapping[str, nn.Parameter]) -> None:
        self.remember(weights)

    @override
    def before_step(self, weights: Mapping[str, nn.Parameter], step: int, random: torch.Generator) -> None:
        self.recalling = (1 - math.tanh(self.k * (step - self.t0) / 2)) / 2

    @override
    def after_step(self, weights: Mapping[str, nn.Parameter], learning_rates: Mapping[str, float]) -> None:
        with torch.no_grad():
            for name, weight in weights.items():
                share = min(1.0, learning_rates[name] * self.recalling * self.strength)
                weight.lerp_(self.start_of(name, weight), share)

    @override
    def acted(self) -> Mapping[str, float]:
        return {"weights": sum(weight.numel() for weight in self.start.values()), "recalling": self.recalling}
