"""What a search has tried: points of its space, each with a trial for every seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from peftlab.sweep.plan import Proposal
from peftlab.sweep.space import Params

TINY = 1e-9
"""What fractions of a training may differ by and count as the same."""


@dataclass(eq=False)
class Trial:
    """A point with one seed."""

    number: int
    point: Point
    proposal: Proposal
    state: Literal["waiting", "running", "paused", "completed", "failed"] = "waiting"
    values: tuple[float, ...] = ()
    evaluations: dict[float, float] = field(default_factory=dict)
    """Of its validations: the score by the fraction of the training."""
    steps: int = 0
    seconds: float = 0.0
    target: float = 1.0
    """Up to which fraction of its training it may go before it is judged again."""

    @property
    def reached(self) -> float:
        """Which fraction of its training it has cost; one that has failed is taken to have come where it was to."""
        if self.state == "failed":
            return max([self.target, *self.evaluations])
        before, last = [0.0, 0.0, *sorted(self.evaluations)][-2:]
        if self.state == "completed" and (not last or 2 * last - before > 1 + TINY):
            return 1.0  # the next validation would have come after the end: it was not stopped early
        return last


@dataclass(eq=False)
class Point:
    """What has been tried, with all seeds."""

    params: Params
    trials: list[Trial] = field(default_factory=list)

    @property
    def state(self) -> Literal["running", "paused", "completed", "failed"]:
        """What its trials come to: it has failed as soon as one has, and is completed when all are."""
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
    """Return whether a trial is running, or is to run."""
    return trial.state in ("running", "waiting")


def key_of(params: Params) -> tuple[tuple[str, Any], ...]:
    """Return what a point is looked up by."""
    return tuple(sorted(params.items()))
