"""Plans decide what a sweep runs next: the controller asks for proposals and reports their outcomes.

A plan knows nothing of processes, folders or devices, and runs in one thread. Its whole state can be rebuilt from the
records: a resumed sweep makes a new plan and has it recall the past.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from peftlab.runs.record import RunRecord


@dataclass(frozen=True)
class Proposal:
    """A trial to run: its changes to the configuration that all trials of the sweep share."""

    overrides: tuple[str, ...]
    """In Hydra's grammar, one value each, as a user would type them to run this trial alone."""
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Shown in tables next to the overrides, such as the phase of a protocol."""


@dataclass(frozen=True)
class Evaluation:
    """One validation of a trial."""

    fraction: float
    """Fraction of the trial's training that is done, above 0 and at most 1."""
    value: float
    """The score that selects the run's best checkpoint; nan if missing."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, or how far it got before it was stopped."""

    status: Literal["completed", "failed", "pruned", "interrupted"]
    """``interrupted``: it is to go on; only `Plan.recall` is told so."""
    values: tuple[float, ...]
    """The sweep's objectives in order; empty if the trial failed."""
    evaluations: tuple[Evaluation, ...] = ()
    """Validations during training, in order."""
    steps: int = 0
    """Optimiser steps taken."""
    seconds: float = 0.0
    """Time on a device: that of the wall clock, divided by the trials that it was shared with."""


class Plan(ABC):
    """Proposes the trials of a sweep."""

    total: int | None = None
    """Number of trials, if known in advance."""
    proposals: Sequence[Proposal] = ()
    """The trials known in advance; all are checked before the first starts."""

    @property
    def examples(self) -> Sequence[Proposal]:
        """Trials that cover every option; checked in advance if `proposals` is empty."""
        return self.proposals

    @abstractmethod
    def ask(self) -> Proposal | None:
        """Return the next trial; None: nothing until a running trial ends or, if `over`, nothing more at all.

        A pruned trial may be proposed again: it then resumes from its checkpoint.
        """

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether no trial will be proposed again, whatever the running ones yield."""

    @abstractmethod
    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Record the outcome of a proposed trial."""

    def report(self, proposal: Proposal, evaluation: Evaluation) -> bool:
        """Record a validation of a running trial; return whether the trial should go on."""
        return True

    @abstractmethod
    def recall(self, begun: Sequence[tuple[Proposal, Outcome]]) -> None:
        """Restore the state of an interrupted sweep by the same plan; called once, before `ask`.

        Args:
            begun: the trials in the order in which they began; `ask` returns the interrupted ones first.
        """

    def labels_of(self, proposal: Proposal) -> Mapping[str, str] | None:
        """Return the labels that this plan gives the proposal; None if it would not propose it."""
        return next((one.labels for one in self.proposals if one == proposal), None)

    def covers(self, proposal: Proposal) -> bool:
        """Return whether this plan might propose it."""
        return self.labels_of(proposal) is not None

    def results(self, records: Iterable[RunRecord]) -> list[dict[str, Any]]:
        """Return the result table, as rows, from the records of all trials."""
        return []
