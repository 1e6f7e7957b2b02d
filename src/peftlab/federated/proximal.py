"""FedProx: a client's weights are pulled towards those that its round began with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import nn
from typing_extensions import override

from peftlab.regularizers.anchored import Anchored
from peftlab.regularizers.regularizer import WeightRule


@dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class Proximal(Anchored, WeightRule):
    """Adds the gradient of ``mu / 2 * |w - w0|^2`` to a step's, w0 being the shared weights (Li et al. 2020, eq. 2).

    The weights are those that the method trains. The gradient is added after clipping, so that clipping does not depend
    on how far a client has gone.
    """

    mu: float
    """The paper's mu, 0.001 to 1 there."""

    @override
    def begin(self, weights: Mapping[str, nn.Parameter]) -> None:
        self.remember(weights)

    @override
    def before_step(self, weights: Mapping[str, nn.Parameter], step: int, random: torch.Generator) -> None:
        with torch.no_grad():
            for name, weight in weights.items():
                pull = self.mu * (weight - self.start_of(name, weight))
                weight.grad = pull if weight.grad is None else weight.grad.add_(pull)
