"""L2-SP: weights decay towards their values at the start of training instead of zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.regularizers.anchored import Anchored
from peftlab.regularizers.regularizer import WeightRule, spec


@spec
class L2Sp(Anchored, WeightRule):
    """Moves every trained weight towards its start: ``w -= lr * strength * (w - w0)`` (Li et al. 2018).

    The paper adds ``strength / 2 * |w - w0|^2`` to the loss. Here the step along its gradient is decoupled from the
    optimiser, as in AdamW's weight decay, so that Adam does not rescale it. But Adam's own steps have about the size of
    the learning rate, whatever that of the gradient, so that a weight is held within ``1 / strength`` of its start, and
    the paper's alphas of 0.001 to 0.1, for plain gradient descent, do nothing. The head, which the paper decays to
    zero, decays to its start like all trained weights; `optimizer.weight_decay` decays to zero.
    """

    strength: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0}
    host_work: ClassVar[str | None] = None

    @override
    def begin(self, weights: Mapping[str, nn.Parameter]) -> None:
        self.remember(weights)

    @override
    def after_step(self, weights: Mapping[str, nn.Parameter], learning_rates: Mapping[str, float]) -> None:
        with torch.no_grad():
            for name, weight in weights.items():
                rate: Any = learning_rates[name]
                if isinstance(rate, Tensor):  # the product is rounded once, as that of numbers is
                    share = (rate.double() * self.strength).to(weight.dtype)
                else:
                    share = rate * self.strength
                weight.lerp_(self.start_of(name, weight), share)

    @override
    def acted(self) -> Mapping[str, float]:
        return {"weights": sum(weight.numel() for weight in self.start.values())}
