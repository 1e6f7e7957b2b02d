"""Sharpness-aware minimisation: the gradient at the worst weights nearby."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

    radius: float = Field(default=0.05, gt=0)
    """The paper's rho."""

    @override
    def gradient(self, ask: Callable[[], Tensor], weights: Sequence[nn.Parameter]) -> Tensor:
        loss = ask()
        climbed = [weight for weight in weights if weight.grad is not None]
        gradients = [weight.grad for weight in climbed if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):  # the run's guard reports why
            return loss
        before = [weight.detach().clone() for weight in climbed]
        with torch.no_grad():
            for weight, gradient in zip(climbed, gradients, strict=True):
                weight.add_(gradient * (self.radius / (norm + torch.finfo(norm.dtype).tiny)).to(gradient.dtype))
        try:
            ask()
        finally:
            with torch.no_grad():
                for weight, start in zip(climbed, before, strict=True):
                    weight.copy_(start)
        return loss
