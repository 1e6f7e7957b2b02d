"""SWA: the mean of the weights over the last part of a training is what is evaluated and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import spec
from peftlab.regularizers.running_average import RunningAverage

_COUNT = "number of averaged steps"


@spec
class Swa(RunningAverage):
    """Averages the weights equally over all steps after the share `start` of them (Izmailov et al. 2018, algorithm 1).

    The paper averages once an epoch, at a constant or cyclic learning rate; that is left to the schedule, and
    `scheduler=constant` is the one to use: what decays to zero leaves little to average. Until the average begins,
    validations are of the weights, and the best of them may be what is kept.
    """

    start: float = Field(default=0.75, ge=0, le=1)
    count: int = field(default=0, init=False)
    """The number of steps in the average."""
    neutral: ClassVar[Mapping[str, float]] = {"start": 1}

    @override
    def begin(self, weights: Mapping[str, Tensor]) -> None:
        self.average, self.count = {}, 0

    @override
    def after_step(self, weights: Mapping[str, Tensor], step: int, steps: int) -> None:
        if step > self.start * steps:
            self.count += 1
            self.move(weights, 1 / self.count)

    @override
    def acted(self) -> Mapping[str, float] | None:
        if self.count == 0:
            return None
        return {"weights": sum(average.numel() for average in self.average.values())}

    @override
    def state(self) -> dict[str, Tensor]:
        return {**self.average, _COUNT: torch.tensor(self.count)} if self.count else {}

    @override
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        super().load_state({name: average for name, average in state.items() if name != _COUNT})
        self.count = int(state[_COUNT])
