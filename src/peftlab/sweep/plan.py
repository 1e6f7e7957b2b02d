"""What a sweep runs next: the plan that the controller asks, and that it tells how each trial went.

A plan knows nothing of processes, folders and devices. It proposes, in one thread, and everything it ever learnt can be
told to it again from the records: a sweep that is resumed makes a new plan and recalls the past.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from peftlab.runs.record import RunRecord


@dataclass(frozen=True)
class Proposal:
    """One trial to be run: what it changes in the configuration that all trials of a sweep share."""

    overrides: tuple[str, ...]
    """In Hydra's grammar, one value each: what a user would type to run this trial alone."""
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What tables show of it beside its overrides, such as the phase of a protocol."""


@dataclass(frozen=True)
class Evaluation:
    """One validation within a trial."""

    fraction: float
    """Of the trial's whole training that is behind it, above 0 and at most 1."""
    value: float
    """Of the score that the run's best checkpoint is selected by; nan where there was none."""


@dataclass(frozen=True)
class Outcome:
    """How a trial has ended, or how far it had come where it was stopped."""

    status: Literal["completed", "failed", "pruned"]
    values: tuple[float, ...]
    """Of the sweep's objectives, in their order; empty where the trial failed."""
    evaluations: tuple[Evaluation, ...] = ()
    """Those within the training, in order."""
    steps: int = 0
    """Optimiser steps that have been taken."""
    seconds: float = 0.0
    """By the clock, while a device was occupied."""


Begun = tuple[Proposal, Sequence[Evaluation]]
"""A trial that goes on, and its validations so far."""


class Plan(ABC):
    """Proposes the trials of a sweep."""

    total: int | None = None
    """How many trials there will be, where that is known from the beginning."""
    proposals: Sequence[Proposal] = ()
    """Those that are known from the beginning: all of them are checked before the first starts."""

    @property
    def examples(self) -> Sequence[Proposal]:
        """Some in which every option that there is occurs; checked, too, where not all is known from the beginning."""
        return self.proposals

    @abstractmethod
    def ask(self) -> Proposal | None:
        """Return what to run next; None: nothing now, until a running trial ends or, where `over`, at all.

        What had been pruned may be proposed again: the trial then goes on from its checkpoint.
        """

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether nothing will be proposed any more, whatever the running trials bring."""

    @abstractmethod
    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Take up how a trial that was proposed has ended."""

    def report(self, proposal: Proposal, evaluation: Evaluation) -> bool:
        """Take up a validation within a running trial; return whether the trial is to go on."""
        return True

    @abstractmethod
    def recall(self, past: Sequence[tuple[Proposal, Outcome]], unfinished: Sequence[Begun] = ()) -> None:
        """Take up what a sweep by the same plan had come to before it was interrupted; called once, before `ask`.

        Args:
            past: trials that are over, or paused, in the order in which they began.
            unfinished: trials that had been interrupted; the next ones that `ask` returns.
        """

    def labels_of(self, proposal: Proposal) -> Mapping[str, str] | None:
        """Return the labels with which this plan would propose it; None where it would not."""
        return next((one.labels for one in self.proposals if one == proposal), None)

    def covers(self, proposal: Proposal) -> bool:
        """Return whether this plan might propose it."""
        return self.labels_of(proposal) is not None

    def results(self, records: Iterable[RunRecord]) -> list[dict[str, Any]]:
        """Return what has been found, one row of a table each, from the records of all trials."""
        return []
