"""The base of regularisers that refer to the weights at the start of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from torch import Tensor, nn
from typing_extensions import override

from peftlab.regularizers.regularizer import Regularizer, spec


@spec
class Anchored(Regularizer):
    """Remembers the weights that training starts from, also when a run is resumed."""

    start: dict[str, Tensor] = field(default_factory=dict, init=False)

    def remember(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Copy `weights`, by name."""
        self.start = {name: weight.detach().clone() for name, weight in weights.items()}

    def start_of(self, name: str, weight: Tensor) -> Tensor:
        """Return the start of `weight`, which has this name, on its device; from a checkpoint, it is on the CPU."""
        self.start[name] = self.start[name].to(weight.device)
        return self.start[name]

    @override
    def state(self) -> dict[str, Tensor]:
        return self.start

    @override
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.start = dict(state)
