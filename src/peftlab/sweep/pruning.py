"""When a trial is stopped early, and which of those that were stopped go on after all.

A pruner knows trials by number and scores where higher is better; a score of nan is worse than every other. What it
judges by is the best score so far, for a run keeps its best checkpoint, at a fraction of the trial's whole training. It
is told of every validation, in order, and everything else follows from them: a sweep that is resumed tells them again.
"""

from __future__ import annotations

import itertools
import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

_TINY = 1e-9
"""Fractions are quotients of steps."""


class Pruner:
    """Stops nothing; and has go on whatever was stopped."""

    def __init__(self) -> None:
        self.paused: dict[int, None] = {}
        """Trials that were stopped, in the order in which they were."""
        self._curves: dict[int, dict[float, float]] = {}
        """Of each trial, the scores by fraction."""

    def begin(self, trial: int) -> None:
        """Take up a new trial."""

    def close(self) -> None:
        """Take up that no new trial is going to begin."""

    def report(self, trial: int, fraction: float, score: float) -> bool:
        """Take up a validation of a running trial; return whether it goes on."""
        self.see(trial, fraction, score)
        return True

    def see(self, trial: int, fraction: float, score: float) -> None:
        """Take up a validation, perhaps a second time, without judging the trial."""
        self._curves.setdefault(trial, {})[fraction] = -math.inf if math.isnan(score) else score

    def _up_to(self, trial: int, fraction: float) -> list[float]:
        """Return the scores of a trial up to a fraction of its training."""
        curve = self._curves.get(trial, {})
        return [score for at, score in curve.items() if at <= fraction + _TINY]

    def pause(self, trial: int) -> None:
        """Take up that a trial has been stopped."""
        self.paused[trial] = None

    def end(self, trial: int, completed: bool) -> None:
        """Take up that a trial is over."""
        self.paused.pop(trial, None)

    def candidates(self) -> Iterator[int]:
        """Yield the paused trials that deserve to go on, the most promising first."""
        yield from self.paused

    def resume(self, trial: int) -> None:
        """Take up that one of them goes on."""
        del self.paused[trial]

    def let_pass(self, trial: int) -> None:
        """Take up that a trial has been seen, and had not been stopped where it is."""

    def target(self, trial: int | None) -> float:
        """Return up to which fraction a trial is trained before it is judged again; None: one that is to begin."""
        return 1.0


class Median(Pruner):
    """Stops a trial whose best score so far is below the median of the others' averages up to there, for good.

    Golovin et al. 2017, "Google Vizier", section 3.2.2: the others are the completed trials.

    Args:
        min_fraction: no trial is stopped before.
        warmup_trials: so many trials are completed before any is stopped.
    """

    def __init__(self, min_fraction: float, warmup_trials: int) -> None:
        super().__init__()
        self.min_fraction, self.warmup_trials = min_fraction, warmup_trials
        self._completed: set[int] = set()

    def report(self, trial: int, fraction: float, score: float) -> bool:
        """See `Pruner.report`."""
        self.see(trial, fraction, score)
        if fraction < self.min_fraction - _TINY or fraction >= 1 or len(self._completed) < self.warmup_trials:
            return True
        others = (self._up_to(other, fraction) for other in self._completed)
        averages = [math.fsum(scores) / len(scores) for scores in others if scores]
        return not averages or max(self._up_to(trial, fraction)) >= statistics.median(averages)

    def end(self, trial: int, completed: bool) -> None:
        """See `Pruner.end`."""
        super().end(trial, completed)
        if completed:
            self._completed.add(trial)

    def candidates(self) -> Iterator[int]:
        """Yield none."""
        yield from ()


class _Rungs(Pruner, ABC):
    """What the rules have in common that compare trials at a few fractions of the training, the rungs.

    A trial is at a rung from the first validation at or after it on. Where several rungs lie between two validations,
    the last of them stands for all.
    """

    def __init__(self, eta: int, min_fraction: float) -> None:
        super().__init__()
        self.eta = eta
        self.levels = rungs(eta, min_fraction)
        self._scores: list[dict[int, float]] = [{} for _ in self.levels]
        """Of each rung, by trial."""
        self._passed: list[set[int]] = [set() for _ in self.levels]
        """Of each rung: which trials have gone on from there."""

    def report(self, trial: int, fraction: float, score: float) -> bool:
        """See `Pruner.report`."""
        self.see(trial, fraction, score)
        rung = self._rung_at(fraction)
        if fraction >= 1 or rung is None:
            return True
        if trial in self._passing(rung):
            self._passed[rung].add(trial)
        return trial in self._passed[rung]

    def see(self, trial: int, fraction: float, score: float) -> None:
        """See `Pruner.see`."""
        super().see(trial, fraction, score)
        rung = self._rung_at(fraction)
        if rung is not None:
            self._scores[rung].setdefault(trial, max(self._up_to(trial, fraction)))
            for passed in self._passed[:rung]:
                passed.add(trial)

    def candidates(self) -> Iterator[int]:
        """Yield paused trials that may pass the rung at which they are, the highest rungs first, the best first."""
        at = {trial: self._rung_of(trial) for trial in self.paused}
        for rung in reversed(range(len(self.levels))):
            free = self._passed[rung].union(self._passing(rung))
            there = [trial for trial in self.paused if at[trial] == rung and trial in free]
            yield from sorted(there, key=lambda trial: (-self._scores[rung][trial], trial))
        yield from (trial for trial in self.paused if at[trial] is None)

    def resume(self, trial: int) -> None:
        """See `Pruner.resume`."""
        super().resume(trial)
        self.let_pass(trial)

    def let_pass(self, trial: int) -> None:
        """See `Pruner.let_pass`."""
        rung = self._rung_of(trial)
        if rung is not None:
            self._passed[rung].add(trial)

    def target(self, trial: int | None) -> float:
        """See `Pruner.target`."""
        rung = None if trial is None else self._rung_of(trial)
        above = self.levels[self._first(trial) if rung is None else rung + 1 :]
        return above[0] if above else 1.0

    def _first(self, trial: int | None) -> int:
        """Return the first rung at which a trial is judged."""
        return 0

    @abstractmethod
    def _passing(self, rung: int) -> Collection[int]:
        """Return the trials at a rung that may go on, as things are now."""

    def _rung_at(self, fraction: float) -> int | None:
        reached = [rung for rung, level in enumerate(self.levels) if level <= fraction + _TINY]
        return reached[-1] if reached else None

    def _rung_of(self, trial: int) -> int | None:
        return next((rung for rung in reversed(range(len(self.levels))) if trial in self._scores[rung]), None)

    def _best(self, rung: int, trials: Iterable[int], count: int) -> list[int]:
        """Return the best `count` of the trials at a rung; what is nan is never among them."""
        scores = self._scores[rung]
        ranked = sorted(trials, key=lambda trial: (-scores[trial], trial))
        return [trial for trial in ranked[:count] if scores[trial] > -math.inf]


class Asha(_Rungs):
    """Asynchronous successive halving with promotion.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2: a trial passes a rung when it
    is among the best 1/eta of the trials that have come there so far. So more than that pass where
    scores rise from trial to trial; the paper shows why it matters little. Here a trial that is among the best when it
    arrives goes on at once, so that its process need not be started again.
    """

    def _passing(self, rung: int) -> Collection[int]:
        there = self._scores[rung]
        return self._best(rung, there, len(there) // self.eta)


@dataclass
class _Bracket:
    first: int
    """The first rung."""
    size: int
    trials: list[int] = field(default_factory=list)
    comers: dict[int, list[int]] = field(default_factory=dict)
    """By rung, once it is decided: which trials come there."""


class SuccessiveHalving(_Rungs):
    """Synchronous successive halving: the best 1/eta of a bracket pass a rung once all of the bracket are there.

    Jamieson & Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization"; Li et al. 2018,
    "Hyperband", algorithm 1. The best one passes in any case. The next bracket is begun while another waits for its
    last trials.

    Args:
        eta: the reduction factor.
        min_fraction: no trial is stopped before.
        size: how many trials are a bracket; None: as many as leave one at the end.
    """

    def __init__(self, eta: int, min_fraction: float, size: int | None = None) -> None:
        super().__init__(eta, min_fraction)
        self._shapes = itertools.cycle([(0, size or eta ** len(self.levels))])
        self._brackets: list[_Bracket] = []
        self._bracket_of: dict[int, _Bracket] = {}
        self._over: set[int] = set()

    def begin(self, trial: int) -> None:
        """See `Pruner.begin`."""
        bracket = self._open()
        bracket.trials.append(trial)
        self._bracket_of[trial] = bracket

    def close(self) -> None:
        """See `Pruner.close`."""
        for bracket in self._brackets:
            bracket.size = len(bracket.trials)

    def end(self, trial: int, completed: bool) -> None:
        """See `Pruner.end`."""
        super().end(trial, completed)
        self._over.add(trial)

    def _open(self) -> _Bracket:
        """Return the bracket of the next trial that begins."""
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
        """Return whether it is settled if, and how, a trial comes to a rung."""
        at = self._rung_of(trial)
        return trial in self._over or (at is not None and at >= rung)

    def _winners(self, rung: int, comers: Sequence[int]) -> list[int]:
        there = [trial for trial in comers if trial in self._scores[rung]]
        best = self._best(rung, there, max(1, len(there) // self.eta))
        return [trial for trial in comers if trial in best or (self._rung_of(trial) or 0) > rung]


class Hyperband(SuccessiveHalving):
    """Successive halving in brackets that begin at different rungs, for it is not known which is best.

    Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", algorithm 1. The brackets
    follow each other, those with most trials and the least training first, and then again.
    """

    def __init__(self, eta: int, min_fraction: float) -> None:
        super().__init__(eta, min_fraction)
        most = len(self.levels)
        sizes = [(most - s, math.ceil((most + 1) / (s + 1) * eta**s)) for s in range(most, -1, -1)]
        self._shapes = itertools.cycle(sizes)


def rungs(eta: int, min_fraction: float) -> tuple[float, ...]:
    """Return the fractions of the training, rising, at which trials are compared: 1/eta, 1/eta², ... to the least."""
    powers = itertools.takewhile(lambda level: level >= min_fraction - _TINY, (eta**-k for k in itertools.count(1)))
    return tuple(reversed(list(powers))) or (min_fraction,)
