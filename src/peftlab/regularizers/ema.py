"""EMA: an exponential moving average of the weights is what is evaluated and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import spec
from peftlab.regularizers.running_average import RunningAverage


@spec
class Ema(RunningAverage):
    """Averages the weights w as ``a = d * a + (1 - d) * w`` after each step (Polyak and Juditsky 1992, as an EMA).

    The average begins at the start of training. With `warmup`, d is ``min(decay, (1 + t) / (10 + t))`` in step t:
    otherwise a short training would keep much of its start, 83 % of it after 189 steps at 0.999.
    """

    decay: float = Field(default=0.999, ge=0, lt=1)
    warmup: bool = True
    """Whether the average follows the weights more closely in the first steps."""
    used: float | None = field(default=None, init=False)
    """The decay of the last step."""
    neutral: ClassVar[Mapping[str, float]] = {"decay": 0}

    def decay_of(self, step: int) -> float:
        """Return the decay of a step, from 1."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    @override
    def begin(self, weights: Mapping[str, Tensor]) -> None:
        self.move(weights, 1)

    @override
    def after_step(self, weights: Mapping[str, Tensor], step: int, steps: int) -> None:
        self.used = self.decay_of(step)
        self.move(weights, 1 - self.used)

    @override
    def acted(self) -> Mapping[str, float]:
        if self.used is None:
            return {}
        return {"decay": self.used, "weights": sum(average.numel() for average in self.average.values())}
