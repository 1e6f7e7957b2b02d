"""Gradient noise: Gaussian noise on the gradient, which fades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from peftlab.regularizers.regularizer import WeightRule, spec


@spec
class GradientNoise(WeightRule):
    """Adds noise of variance ``eta / (1 + t) ** gamma`` to the gradient in step t (Neelakantan et al. 2015, eq. 1).

    Steps count from 0. The noise is added after clipping, which bounds the norm of the gradient; its own norm grows
    with the square root of the number of weights. It is the same on all ranks, and does not depend on how a batch is
    divided.
    """

    eta: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    """The variance in the first step; 0.01, 0.3 or 1 in the paper."""
    gamma: float = Field(default=0.55, ge=0, allow_inf_nan=False)
    norm: float | None = field(default=None, init=False)
    """The norm of the last noise."""
    neutral: ClassVar[Mapping[str, float]] = {"eta": 0}
    host_work: ClassVar[str | None] = "it draws the noise"

    def deviation(self, step: int) -> float:
        """Return the standard deviation in a step, counted from 1."""
        return (self.eta / step**self.gamma) ** 0.5

    @override
    def before_step(self, weights: Mapping[str, nn.Parameter], step: int, random: torch.Generator) -> None:
        deviation, squares = self.deviation(step), 0.0
        for weight in weights.values():
            if weight.grad is not None:
                noise = deviation * torch.randn(weight.shape, generator=random)
                squares += float(noise.pow(2).sum())
                weight.grad.add_(noise.to(weight.grad))
        self.norm = squares**0.5

    @override
    def acted(self) -> Mapping[str, float]:
        return {} if self.norm is None else {"norm": self.norm}
