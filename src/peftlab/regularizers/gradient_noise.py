"""Gradient noise: Gaussian noise on the gradient, which fades."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from peftlab.regularizers.regularizer import WeightRule, spec

log = logging.getLogger("peftlab")

_DROWNS = 10.0
"""Times the norm of the gradient in the first step."""


@spec
class GradientNoise(WeightRule):
    """Adds noise of variance ``eta / (1 + t) ** gamma`` to the gradient in step t (Neelakantan et al. 2015, eq. 1).

    Steps count from 0. The noise is added after clipping, which bounds the norm of the gradient; its own norm grows
    with the square root of the number of weights. It is the same on all ranks, and does not depend on how a batch is
    divided. Where it is far larger than the gradient, nothing is learnt; a warning says so.
    """

    eta: float = Field(default=1e-7, ge=0, allow_inf_nan=False)
    """The variance in the first step; 0.01, 0.3 or 1 in the paper, of small networks under plain gradient descent."""
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
        deviation, squares, of_gradient = self.deviation(step), 0.0, 0.0
        for weight in weights.values():
            if weight.grad is not None:
                of_gradient += float(weight.grad.detach().double().pow(2).sum()) if step == 1 else 0.0
                noise = deviation * torch.randn(weight.shape, generator=random)
                squares += float(noise.pow(2).sum())
                weight.grad.add_(noise.to(weight.grad))
        self.norm = squares**0.5
        if step == 1 and self.norm > _DROWNS * of_gradient**0.5:
            log.warning(
                "regularizer.gradient_noise: its norm is %.3g, and that of the gradient %.3g: the noise drowns it, and "
                "little is learnt. Lower eta: the norm grows with its root, and with that of the number of weights",
                self.norm,
                of_gradient**0.5,
            )

    @override
    def acted(self) -> Mapping[str, float]:
        return {} if self.norm is None else {"norm": self.norm}
