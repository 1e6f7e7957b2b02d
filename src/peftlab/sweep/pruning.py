"""Pruners decide which trials stop early, and which stopped trials resume.

A pruner knows trials by number and scores where higher is better; nan is worst. It judges a trial by its best score so
far, because a run keeps its best checkpoint, at a fraction of its training. Its state follows from the validations, in
order: a resumed sweep reports them again.
"""

from __future__ import annotations

import itertools
import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from typing_extensions import override

_TINY = 1e-9
"""Fractions are quotients of steps."""


class Pruner:
    """Stops no trial, and resumes every stopped one."""

    def __init__(self) -> None:
        self.paused: dict[int, None] = {}
        """Stopped trials, in order."""
        self._curves: dict[int, dict[float, float]] = {}
        """The scores of each trial by fraction."""

    def begin(self, trial: int) -> None:
        """Register a new trial."""

    def close(self) -> None:
        """Note that no more trials will begin."""

    def report(self, trial: int, fraction: float, score: float) -> bool:
        """Record a validation of a running trial; return whether the trial goes on."""
        self.see(trial, fraction, score)
        return True

    def see(self, trial: int, fraction: float, score: float) -> None:
        """Record a validation, perhaps again, without judging the trial."""
        self._curves.setdefault(trial, {})[fraction] = -math.inf if math.isnan(score) else score

    def _up_to(self, trial: int, fraction: float) -> list[float]:
        """Return the scores of a trial up to a fraction of its training."""
        curve = self._curves.get(trial, {})
        return [score for at, score in curve.items() if at <= fraction + _TINY]

    def pause(self, trial: int) -> None:
        """Record that a trial was stopped."""
        self.paused[trial] = None

    def end(self, trial: int, completed: bool) -> None:
        """Record that a trial is over."""
        self.paused.pop(trial, None)

    def candidates(self) -> Iterator[int]:
        """Yield the paused trials that may resume, most promising first."""
        yield from self.paused

    def resume(self, trial: int) -> None:
        """Record that a paused trial resumes."""
        del self.paused[trial]

    def let_pass(self, trial: int) -> None:
        """Record that a trial passed the point that it has reached."""

    def target(self, trial: int | None) -> float:
        """Return the fraction at which a trial is judged next; None: a new trial."""
        return 1.0


class Median(Pruner):
    """Stops a trial for good if its best score so far is below the median of the others' averages up to there.

    Golovin et al. 2017, "Google Vizier", section 3.2.2: the others are the completed trials.

    Args:
        min_fraction: no trial is stopped earlier.
        warmup_trials: completed trials needed before any is stopped.
    """

    def __init__(self, min_fraction: float, warmup_trials: int) -> None:
        super().__init__()
        self.min_fraction, self.warmup_trials = min_fraction, warmup_trials
        self._completed: set[int] = set()

    @override
    def report(self, trial: int, fraction: float, score: float) -> bool:
        self.see(trial, fraction, score)
        if fraction < self.min_fraction - _TINY or fraction >= 1 or len(self._completed) < self.warmup_trials:
            return True
        others = (self._up_to(other, fraction) for other in self._completed)
        averages = [math.fsum(scores) / len(scores) for scores in others if scores]
        return not averages or max(self._up_to(trial, fraction)) >= statistics.median(averages)

    @override
    def end(self, trial: int, completed: bool) -> None:
        super().end(trial, completed)
        if completed:
            self._completed.add(trial)

    @override
    def candidates(self) -> Iterator[int]:
        """Yield none."""
        yield from ()


class _Rungs(Pruner, ABC):
    """Base of the rules that compare trials at rungs, a few fractions of the training.

    A trial reaches a rung at its first validation at or after it. If several rungs lie between two validations, the
    last stands for all.
    """

    def __init__(self, eta: int, min_fraction: float) -> None:
        super().__init__()
        self.eta = eta
        self.levels = rungs(eta, min_fraction)
        self._scores: list[dict[int, float]] = [{} for _ in self.levels]
        """The scores at each rung, by trial."""
        self._passed: list[set[int]] = [set() for _ in self.levels]
        """The trials that passed each rung."""

    @override
    def report(self, trial: int, fraction: float, score: float) -> bool:
        self.see(trial, fraction, score)
        rung = self._rung_at(fraction)
        if fraction >= 1 or rung is None:
            return True
        if trial in self._passing(rung):
            self._passed[rung].add(trial)
        return trial in self._passed[rung]

    @override
    def see(self, trial: int, fraction: float, score: float) -> None:
        super().see(trial, fraction, score)
        rung = self._rung_at(fraction)
        if rung is not None:
            self._scores[rung].setdefault(trial, max(self._up_to(trial, fraction)))
            for passed in self._passed[:rung]:
                passed.add(trial)

    @override
    def candidates(self) -> Iterator[int]:
        """Yield the paused trials that may pass their rung, from the highest rung and best score down."""
        at = {trial: self._rung_of(trial) for trial in self.paused}
        for rung in reversed(range(len(self.levels))):
            allowed = self._passed[rung].union(self._passing(rung))
            passing = [trial for trial in self.paused if at[trial] == rung and trial in allowed]
            yield from sorted(passing, key=lambda trial: (-self._scores[rung][trial], trial))
        yield from (trial for trial in self.paused if at[trial] is None)

    @override
    def resume(self, trial: int) -> None:
        super().resume(trial)
        self.let_pass(trial)

    @override
    def let_pass(self, trial: int) -> None:
        rung = self._rung_of(trial)
        if rung is not None:
            self._passed[rung].add(trial)

    @override
    def target(self, trial: int | None) -> float:
        rung = None if trial is None else self._rung_of(trial)
        above = self.levels[self._first(trial) if rung is None else rung + 1 :]
        return above[0] if above else 1.0

    def _first(self, trial: int | None) -> int:
        """Return the first rung of a trial."""
        return 0

    @abstractmethod
    def _passing(self, rung: int) -> Collection[int]:
        """Return the trials that may pass a rung now."""

    def _rung_at(self, fraction: float) -> int | None:
        reached = [rung for rung, level in enumerate(self.levels) if level <= fraction + _TINY]
        return reached[-1] if reached else None

    def _rung_of(self, trial: int) -> int | None:
        return next((rung for rung in reversed(range(len(self.levels))) if trial in self._scores[rung]), None)

    def _best(self, rung: int, trials: Iterable[int], count: int) -> list[int]:
        """Return the best `count` of the trials at a rung, never one whose score is nan."""
        scores = self._scores[rung]
        ranked = sorted(trials, key=lambda trial: (-scores[trial], trial))
        return [trial for trial in ranked[:count] if scores[trial] > -math.inf]


class Asha(_Rungs):
    """Asynchronous successive halving with promotion.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2: a trial passes a rung when it
    is among the best 1/eta of the trials that have reached it so far. So more than 1/eta pass if scores rise from trial
    to trial; the paper shows why this matters little. Here a trial that is among the best on arrival goes on at once,
    which saves restarting its process.
    """

    def _passing(self, rung: int) -> Collection[int]:
        scores = self._scores[rung]
        return self._best(rung, scores, len(scores) // self.eta)


@dataclass
class _Bracket:
    first: int
    """The first rung."""
    size: int
    trials: list[int] = field(default_factory=list)
    comers: dict[int, list[int]] = field(default_factory=dict)
    """The trials that reach each rung, once decided."""


class SuccessiveHalving(_Rungs):
    """Synchronous successive halving: the best 1/eta of a bracket pass a rung once all of it has arrived.

    Jamieson & Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization"; Li et al. 2018,
    "Hyperband", algorithm 1. The best trial always passes. The next bracket begins while another waits for its last
    trials.

    Args:
        eta: the reduction factor.
        min_fraction: no trial is stopped earlier.
        size: trials per bracket; None: enough to leave one at the end.
    """

    def __init__(self, eta: int, min_fraction: float, size: int | None = None) -> None:
        super().__init__(eta, min_fraction)
        self._shapes = itertools.cycle([(0, size or eta ** len(self.levels))])
        self._brackets: list[_Bracket] = []
        self._bracket_of: dict[int, _Bracket] = {}
        self._over: set[int] = set()

    @override
    def begin(self, trial: int) -> None:
        bracket = self._open()
        bracket.trials.append(trial)
        self._bracket_of[trial] = bracket

    @override
    def close(self) -> None:
        for bracket in self._brackets:
            bracket.size = len(bracket.trials)

    @override
    def end(self, trial: int, completed: bool) -> None:
        super().end(trial, completed)
        self._over.add(trial)

    def _open(self) -> _Bracket:
        """Return the bracket of the next new trial."""
        if not self._brackets or len(self._brackets[-1].trials) >= self._brackets[-1].size:
            self._brackets.append(_Bracket(*next(self._shapes)))
        return self._brackets[-1]

    def _first(self, trial: int | None) -> int:
        return (self._open() if trial is None else self._bracket_of[trial]).first

    def _passing(self, rung: int) -> Collection[int]:
        return {trial for bracket in self._brackets for trial in self._passing_of(bracket, rung)}

    def _passing_of(self, bracket: _Bracket, rung: int) -> Collection[int]:
        if rung < bracket.first:
            return bracket.trials
        if len(bracket.trials) < bracket.size:
            return ()
        for below in range(bracket.first, rung + 1):
            if below + 1 not in bracket.comers:
                comers = bracket.comers.get(below, bracket.trials)
                if not all(self._is_through(trial, below) for trial in comers):
                    return ()
                bracket.comers[below + 1] = self._winners(below, comers)
        return bracket.comers[rung + 1]

    def _is_through(self, trial: int, rung: int) -> bool:
        """Return whether a trial has reached the rung or never will."""
        at = self._rung_of(trial)
        return trial in self._over or (at is not None and at >= rung)

    def _winners(self, rung: int, comers: Sequence[int]) -> list[int]:
        scored = [trial for trial in comers if trial in self._scores[rung]]
        best = self._best(rung, scored, max(1, len(scored) // self.eta))
        return [trial for trial in comers if trial in best or (self._rung_of(trial) or 0) > rung]


class Hyperband(SuccessiveHalving):
    """Successive halving in brackets that begin at different rungs, because the best one is unknown.

    Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", algorithm 1. The brackets
    repeat in cycles, each from the most trials with the least training down.
    """

    def __init__(self, eta: int, min_fraction: float) -> None:
        super().__init__(eta, min_fraction)
        most = len(self.levels)
        sizes = [(most - s, math.ceil((most + 1) / (s + 1) * eta**s)) for s in range(most, -1, -1)]
        self._shapes = itertools.cycle(sizes)


def rungs(eta: int, min_fraction: float) -> tuple[float, ...]:
    """Return the rungs in rising order: the fractions 1/eta, 1/eta², ... down to `min_fraction`."""
    powers = itertools.takewhile(lambda level: level >= min_fraction - _TINY, (eta**-k for k in itertools.count(1)))
    return tuple(reversed(list(powers))) or (min_fraction,)
