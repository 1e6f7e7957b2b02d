"""The base of rules that take the gradient at the worst weights nearby."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.regularizers.regularizer import StepRule, spec


@spec
class SharpnessRule(StepRule):
    """Takes the gradient at ``w + radius * T^2 g / |T g|``, where g is the one at w and T scales each weight.

    A step takes twice the time. The norm is over all trained weights, and g is the gradient of the whole step, where
    the papers use that of each device's share.
    """

    radius: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    """The papers' rho."""
    climbed: Tensor | None = field(default=None, init=False)
    """The norm of the last climb, in units of T."""
    passes: ClassVar[int] = 1
    neutral: ClassVar[Mapping[str, float]] = {"radius": 0}
    host_work: ClassVar[str | None] = "it looks at the norm of the first gradient before it asks for the second"

    @abstractmethod
    def scaled(self, vector: Tensor, weight: Tensor) -> Tensor:
        """Return `vector` times T, the scale of `weight`."""

    @override
    def acted(self) -> Mapping[str, float | Tensor]:
        return {} if self.climbed is None else {"distance": self.climbed}

    @override
    def gradient(self, ask: Callable[[], Tensor], weights: Sequence[nn.Parameter]) -> Tensor:
        loss = ask()
        trained = [weight for weight in weights if weight.grad is not None]
        with torch.no_grad():
            gradients = [self.scaled(weight.grad, weight) for weight in trained if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):  # the run's guard reports why
            return loss
        nonzero = norm + torch.finfo(norm.dtype).tiny
        self.climbed = self.radius * norm / nonzero
        before = [weight.detach().clone() for weight in trained]
        with torch.no_grad():
            for weight, gradient in zip(trained, gradients, strict=True):
                weight.add_(self.scaled(gradient, weight) * (self.radius / nonzero).to(gradient.dtype))
        try:
            ask()
        finally:
            with torch.no_grad():
                for weight, start in zip(trained, before, strict=True):
                    weight.copy_(start)
        return loss
