"""Learning-rate schedules: a factor on the peak learning rate for every optimiser step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import transformers
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from typing_extensions import override

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid"))


@spec
class Schedule(ABC):
    """Base of all schedules: a warm-up from zero, in steps or as a fraction of all steps."""

    warmup_steps: int | None = Field(default=None, ge=0)
    """Warm-up in optimiser steps; set this or `warmup_fraction`, not both."""
    warmup_fraction: float | None = Field(default=None, ge=0, le=1)
    """Warm-up as a fraction of all optimiser steps."""

    @model_validator(mode="after")
    def _one_warmup(self) -> Schedule:
        if self.warmup_steps is not None and self.warmup_fraction is not None:
            raise ValueError(
                "give warmup_steps or warmup_fraction, not both; set the other to null "
                "(scheduler.warmup_steps=100 scheduler.warmup_fraction=null)"
            )
        return self

    def warmup(self, total_steps: int) -> int:
        """Return the warm-up in optimiser steps."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return round((self.warmup_fraction or 0.0) * total_steps)

    @abstractmethod
    def attach(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        """Return the scheduler for `total_steps` optimiser steps."""


@spec
class Linear(Schedule):
    """Linear decay to zero after the warm-up."""

    @override
    def attach(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        return transformers.get_linear_schedule_with_warmup(optimizer, self.warmup(total_steps), total_steps)


@spec
class Cosine(Schedule):
    """Decay along half a cosine after the warm-up."""

    min_factor: float = Field(default=0.0, ge=0, le=1)
    """The final learning rate as a share of the peak."""

    @override
    def attach(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        return transformers.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, self.warmup(total_steps), total_steps, min_lr_rate=self.min_factor
        )


@spec
class Constant(Schedule):
    """Constant after the warm-up."""

    @override
    def attach(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        return transformers.get_constant_schedule_with_warmup(optimizer, self.warmup(total_steps))


@spec
class WarmupStableDecay(Schedule):
    """Constant after the warm-up, then decay along half a cosine over the last steps."""

    decay_fraction: float = Field(default=0.2, ge=0, le=1)
    """Length of the final decay as a fraction of all optimiser steps."""
    min_factor: float = Field(default=0.0, ge=0, le=1)
    """The final learning rate as a share of the peak."""

    @model_validator(mode="after")
    def _room_for_both(self) -> WarmupStableDecay:
        if (self.warmup_fraction or 0.0) + self.decay_fraction > 1:
            raise ValueError("warmup_fraction and decay_fraction are more than 1 together; lower one of them")
        return self

    def decay(self, total_steps: int) -> int:
        """Return the final decay in optimiser steps, of which there are as many as the warm-up leaves."""
        return min(round(self.decay_fraction * total_steps), max(total_steps - self.warmup(total_steps), 0))

    @override
    def attach(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        # transformers' version starts the warm-up at min_factor and jumps where warm-up and decay meet
        warmup, decay = self.warmup(total_steps), self.decay(total_steps)

        def factor(step: int) -> float:
            left = max(total_steps - step, 0)
            if step < warmup:
                return step / warmup
            if left >= decay:
                return 1.0
            return self.min_factor + (1 - self.min_factor) * 0.5 * (1 - math.cos(math.pi * left / decay))

        return LambdaLR(optimizer, factor)
