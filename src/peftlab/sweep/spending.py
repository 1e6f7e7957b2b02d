"""How much of its budget a search has spent, and what the rest allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from peftlab.sweep.points import TINY, Point, Trial, is_running
from peftlab.sweep.spec import SweepBudgetSpec


@dataclass(frozen=True, kw_only=True)
class Spending:
    """The budget account of a search."""

    budget: SweepBudgetSpec
    points: list[Point]
    """The points begun so far; the search appends to them."""
    size: int | None
    """Number of points in the space; None: unlimited."""
    seeds: int
    """Trials per point."""
    devices: float
    """Device hours per hour of a trial."""
    price: float
    """Per device hour."""

    @property
    def trials(self) -> Iterator[Trial]:
        """All trials of all points."""
        return (trial for point in self.points for trial in point.trials)

    @property
    def full_runs(self) -> float:
        """The cost so far, in complete trainings."""
        return math.fsum(trial.reached for trial in self.trials)

    @property
    def total(self) -> int | None:
        """Number of trials, if known in advance."""
        limits = self.budget.limits
        if any(limits[name] is not None for name in ("full_runs", "steps", "hours", "money")):
            return None
        counts = [self.budget.trials and self.budget.trials // self.seeds, self.size]
        return min(count for count in counts if count is not None) * self.seeds

    def trial(self, number: int) -> Trial:
        """Return the trial with that number."""
        return next(trial for trial in self.trials if trial.number == number)

    def counts_one_more(self) -> bool:
        """Return whether space and trial limit allow another point."""
        if self.size is not None and len(self.points) >= self.size:
            return False
        return self.budget.trials is None or (len(self.points) + 1) * self.seeds <= self.budget.trials

    def fits(self, cost: float) -> bool:
        """Return whether `cost` fits in the full-run budget once running trials reach their targets."""
        if self.budget.full_runs is None:
            return True
        committed = math.fsum(max(trial.reached, trial.target if is_running(trial) else 0.0) for trial in self.trials)
        return committed + cost <= self.budget.full_runs + TINY

    def is_over(self) -> bool:
        """Return whether the measured cost has reached a limit."""
        hours = math.fsum(trial.seconds for trial in self.trials) / 3600 * self.devices
        spent = {
            "full_runs": self.full_runs,
            "steps": sum(trial.steps for trial in self.trials),
            "hours": hours,
            "money": hours * self.price,
        }
        limits = {name: limit for name, limit in self.budget.limits.items() if limit is not None}
        return any(spent.get(name, 0.0) >= limit - TINY for name, limit in limits.items())
