"""Sharpness-aware minimisation: the gradient at the worst weights nearby."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.regularizers.regularizer import StepRule, spec


@spec
class Sam(StepRule):
    """Takes the gradient at ``w + radius * g / |g|``, where g is the one at w (Foret et al. 2021, equations 2 and 3).

    A step takes twice the time. The norm is over all trained weights, and g is the gradient of the whole step, where
    the paper uses that of each device's share.
    """

    radius: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    """The paper's rho."""
    climbed: Tensor | None = field(default=None, init=False)
    """The norm of the last climb."""
    passes: ClassVar[int] = 1
    neutral: ClassVar[Mapping[str, float]] = {"radius": 0}

    @override
    def acted(self) -> Mapping[str, float | Tensor]:
        return {} if self.climbed is None else {"distance": self.climbed}

    @override
    def gradient(self, ask: Callable[[], Tensor], weights: Sequence[nn.Parameter]) -> Tensor:
        loss = ask()
        trained = [weight for weight in weights if weight.grad is not None]
        gradients = [weight.grad for weight in trained if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):  # the run's guard reports why
            return loss
        self.climbed = self.radius * norm / (norm + torch.finfo(norm.dtype).tiny)
        before = [weight.detach().clone() for weight in trained]
        with torch.no_grad():
            for weight, gradient in zip(trained, gradients, strict=True):
                weight.add_(gradient * (self.radius / (norm + torch.finfo(norm.dtype).tiny)).to(gradient.dtype))
        try:
            ask()
        finally:
            with torch.no_grad():
                for weight, start in zip(trained, before, strict=True):
                    weight.copy_(start)
        return loss
