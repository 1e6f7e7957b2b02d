"""The points that a search has tried, each with one trial per seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from peftlab.sweep.plan import Proposal
from peftlab.sweep.space import Params

TINY = 1e-9
"""Tolerance for equal fractions of a training."""


@dataclass(eq=False)
class Trial:
    """A point with one seed."""

    number: int
    point: Point
    proposal: Proposal
    state: Literal["waiting", "running", "paused", "completed", "failed"] = "waiting"
    values: tuple[float, ...] = ()
    evaluations: dict[float, float] = field(default_factory=dict)
    """Validation scores by fraction of the training."""
    steps: int = 0
    seconds: float = 0.0
    target: float = 1.0
    """Fraction of the training up to which it may go before it is judged again."""

    @property
    def reached(self) -> float:
        """Fraction of its training spent; a failed trial counts up to its target."""
        if self.state == "failed":
            return max([self.target, *self.evaluations])
        before, last = [0.0, 0.0, *sorted(self.evaluations)][-2:]
        if self.state == "completed" and (not last or 2 * last - before > 1 + TINY):
            return 1.0  # the next validation would come after the end: it ran to the end
        return last


@dataclass(eq=False)
class Point:
    """A point of the space with all its seeds."""

    params: Params
    trials: list[Trial] = field(default_factory=list)

    @property
    def state(self) -> Literal["running", "paused", "completed", "failed"]:
        """The joint state of its trials: failed once any has failed, completed when all are."""
        states = {trial.state for trial in self.trials}
        if "failed" in states:
            return "failed"
        if states == {"completed"}:
            return "completed"
        return "paused" if states == {"paused"} else "running"

    @property
    def values(self) -> tuple[float, ...]:
        """The objectives of a completed point: the means over its seeds."""
        return tuple(map(fmean, zip(*(trial.values for trial in self.trials), strict=True)))


def is_running(trial: Trial) -> bool:
    """Return whether a trial is running or waiting."""
    return trial.state in ("running", "waiting")


def key_of(params: Params) -> tuple[tuple[str, Any], ...]:
    """Return the hashable key of a point."""
    return tuple(sorted(params.items()))
