"""L2-SP: weights are drawn to where the training began, in place of zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

import torch
from pydantic import Field
from torch import Tensor, nn

from peftlab.regularizers.regularizer import WeightRule, spec


@spec
class L2Sp(WeightRule):
    """Moves every trained weight towards its start: ``w -= lr * strength * (w - w0)`` (Li et al. 2018).

    The paper adds ``strength / 2 * |w - w0|^2`` to the loss. Here the step along its gradient is not the
    optimiser's, as with AdamW's weight decay, so that Adam does not rescale it. The head, which the paper draws to
    zero, is drawn to its start like all that is trained; `optimizer.weight_decay` draws to zero.
    """

    strength: float = Field(default=0.01, gt=0)
    """The paper's alpha; it takes 0.001 to 0.1."""
    start: dict[str, Tensor] = field(default_factory=dict, init=False)

    def begin(self, weights: Mapping[str, nn.Parameter]) -> None:
        """See `WeightRule.begin`."""
        self.start = {name: weight.detach().clone() for name, weight in weights.items()}

    def after_step(self, weights: Mapping[str, nn.Parameter], learning_rates: Mapping[str, float]) -> None:
        """See `WeightRule.after_step`."""
        with torch.no_grad():
            for name, weight in weights.items():
                weight.lerp_(self.start[name].to(weight.device), learning_rates[name] * self.strength)

    def state(self) -> dict[str, Tensor]:
        """See `WeightRule.state`."""
        return self.start

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `WeightRule.load_state`."""
        self.start = dict(state)
