"""A plan that searches a space within a budget and prunes weak trials."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.sweep.plan import Evaluation, Outcome, Plan, Proposal
from peftlab.sweep.points import TINY, Point, Trial, is_running, key_of
from peftlab.sweep.pruning import Asha, Hyperband, Median, Pruner, SuccessiveHalving
from peftlab.sweep.samplers import make_sampler
from peftlab.sweep.space import Params, Space
from peftlab.sweep.spec import SweepBudgetSpec, SweepSpec
from peftlab.sweep.spending import Spending

log = logging.getLogger("peftlab")

IN_VAIN = 20
"""Failures in a row that end a search."""


class SearchPlan(Plan):
    """Proposes points of a space, each with all seeds, until the budget is spent or no point is left.

    Args:
        spec: how to search.
        space: the points to search.
        objectives: ``max`` or ``min``, by dotted key of the record.
        budget: replaces that of `spec`.
        extra: overrides of every trial besides those of its point.
        labels: of its trials.
        devices_per_trial: device hours per hour of a trial.

    Raises:
        ConfigError: the settings do not suit the space.
    """

    def __init__(
        self,
        spec: SweepSpec,
        space: Space,
        objectives: Mapping[str, str],
        budget: SweepBudgetSpec | None = None,
        extra: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        devices_per_trial: float = 1.0,
    ) -> None:
        self.space, self.objectives, self.budget = space, dict(objectives), budget or spec.budget
        self.points: list[Point] = []
        self._spec, self._extra, self._labels = spec, tuple(extra), dict(labels or {})
        self._seeds = space.seeds or (None,)
        _check(spec, space, self.budget, self.objectives, self._seeds)
        self._pruner = _pruner(spec, self.budget)
        self._higher_is_better = next(iter(self.objectives.values())) == "max"
        self._trials: dict[Proposal, Trial] = {}
        self._point_of: dict[tuple[tuple[str, Any], ...], Point] = {}
        self._queue: list[Trial] = []
        """Waiting trials: interrupted ones, and further seeds of begun points."""
        self._begun: set[Trial] = set()
        """The interrupted trials in the queue."""
        self._in_vain = 0
        """Failures in a row up to now."""
        self._sampler = make_sampler(spec, space, self.objectives)
        self.spending = Spending(
            budget=self.budget,
            points=self.points,
            size=space.size,
            seeds=len(self._seeds),
            devices=devices_per_trial,
            price=spec.price_per_device_hour or 0.0,
        )
        self.total = self.spending.total

    @override
    def ask(self) -> Proposal | None:
        """Return an interrupted trial, else one to promote, else the first of a new point."""
        if (waiting := self._next_waiting()) is not None:
            self._queue.remove(waiting)
            return self._start(waiting)
        if self._is_spent():
            return None
        may_begin = self._may_begin_or_close()
        if (trial := self._promotable()) is not None:
            self._pruner.resume(trial.number)
            return self._start(trial)
        params = self._sampler.next(self) if may_begin else None
        if params is None:
            return None
        self._begin(params)
        return self._start(self._queue.pop(0))

    @property
    @override
    def over(self) -> bool:
        if self._next_waiting() is not None:
            return False
        if self._is_spent():
            return True
        if self._may_begin_or_close() or self._may_yet_begin() or self._promotable() is not None:
            return False
        return self._spec.prune in ("none", "median") or not any(map(is_running, self.spending.trials))

    @property
    def is_idle(self) -> bool:
        """Whether no trial is running or waiting."""
        return not any(trial.state in ("running", "waiting") for trial in self.spending.trials)

    @override
    def report(self, proposal: Proposal, evaluation: Evaluation) -> bool:
        trial = self._trials[proposal]
        trial.evaluations[evaluation.fraction] = evaluation.value
        goes_on = self._pruner.report(trial.number, evaluation.fraction, self._score(evaluation.value))
        if goes_on and evaluation.fraction < 1 and evaluation.fraction > trial.target - TINY:
            next_target = self._pruner.target(trial.number)
            goes_on = self.spending.fits(next_target - trial.reached)
            trial.target = next_target if goes_on else trial.target
        return goes_on

    @override
    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        trial = self._trials[proposal]
        self._see(trial, outcome.evaluations)
        trial.steps, trial.seconds = max(trial.steps, outcome.steps), max(trial.seconds, outcome.seconds)
        trial.values = outcome.values
        assert outcome.status != "interrupted", "only `recall` is told of those"
        trial.state = "paused" if outcome.status == "pruned" else outcome.status
        self._in_vain = self._in_vain + 1 if outcome.status == "failed" else 0
        if self._in_vain == IN_VAIN:
            log.error("%d trials have failed one after another: the search ends", IN_VAIN)
        if outcome.status == "pruned":
            self._pruner.pause(trial.number)
        else:
            self._pruner.end(trial.number, completed=outcome.status == "completed")

    @override
    def recall(self, begun: Sequence[tuple[Proposal, Outcome]]) -> None:
        recalled = [(trial, outcome) for proposal, outcome in begun if (trial := self._recalled(proposal)) is not None]
        for trial, outcome in recalled:
            if outcome.status != "interrupted" and trial.state == "waiting":
                trial.state = "running"
                self.tell(trial.proposal, outcome)
        for trial, outcome in recalled:
            if outcome.status == "interrupted":
                self._see(trial, outcome.evaluations)
                self._pruner.let_pass(trial.number)  # an interrupted trial was not pruned here
                self._begun.add(trial)
        self._queue = [trial for trial in self._queue if trial.state == "waiting"]
        self._queue.sort(key=lambda trial: trial not in self._begun)

    def _see(self, trial: Trial, evaluations: Sequence[Evaluation]) -> None:
        for one in evaluations:
            trial.evaluations[one.fraction] = one.value
            self._pruner.see(trial.number, one.fraction, self._score(one.value))

    @property
    @override
    def examples(self) -> Sequence[Proposal]:
        seed = self._seeds[0]
        return [self._proposal(params, seed) for params in self.space.examples()]

    @override
    def labels_of(self, proposal: Proposal) -> Mapping[str, str] | None:
        return None if self._parsed(proposal) is None else self._labels

    @property
    def best(self) -> Point | None:
        """The best point by one objective: a completed one, else the best of those that got furthest."""
        completed = [point for point in self.points if point.state == "completed"]
        if completed:
            return max(completed, key=lambda point: self._score(point.values[0]))
        begun = [p for p in self.points if p.state == "paused" and p.trials[0].evaluations]
        return max(begun, key=self._promise, default=None)

    def _promise(self, point: Point) -> tuple[float, float]:
        evaluations = point.trials[0].evaluations
        return max(evaluations), max(map(self._score, evaluations.values()))

    def _score(self, value: float) -> float:
        """Return the score with its sign set so that higher is better; nan is worst."""
        if math.isnan(value):
            return -math.inf
        return value if self._higher_is_better else -value

    def _parsed(self, proposal: Proposal) -> tuple[dict[str, Any], int | None] | None:
        own = list(proposal.overrides)
        for text in self._extra:
            if text not in own:
                return None
            own.remove(text)
        return self.space.params_of(own)

    def _recalled(self, proposal: Proposal) -> Trial | None:
        """Return the trial of an earlier proposal, now under exactly these overrides."""
        parsed = self._parsed(proposal)
        if parsed is None:
            return None
        params, seed = parsed
        point = self._point_of.get(key_of(params))
        if point is None:
            point = self._begin(params)
        wanted = self._proposal(params, seed)
        trial = next((one for one in point.trials if one.proposal in (wanted, proposal)), None)
        if trial is not None and trial.proposal != proposal:
            del self._trials[trial.proposal]
            trial.proposal = Proposal(proposal.overrides, trial.proposal.labels)
            self._trials[trial.proposal] = trial
        return trial

    def _proposal(self, params: Params, seed: int | None) -> Proposal:
        return Proposal((*self.space.overrides_of(params, seed), *self._extra), self._labels)

    def _begin(self, params: Params) -> Point:
        """Add a point and queue its trials."""
        point = Point(params)
        self.points.append(point)
        self._point_of[key_of(params)] = point
        for seed in self._seeds:
            trial = Trial(len(self._trials), point, self._proposal(params, seed))
            trial.target = self._pruner.target(None)
            point.trials.append(trial)
            self._trials[trial.proposal] = trial
            self._pruner.begin(trial.number)
            self._queue.append(trial)
        return point

    def _start(self, trial: Trial) -> Proposal:
        trial.target = self._target_of(trial)
        trial.state = "running"
        return trial.proposal

    def _target_of(self, trial: Trial) -> float:
        return max(self._pruner.target(trial.number), trial.target)

    def _next_waiting(self) -> Trial | None:
        """Return the next queued trial; drop unbegun seeds of a point of which one has failed."""
        for trial in list(self._queue):
            if trial.point.state != "failed" or trial in self._begun:
                return trial
            self._queue.remove(trial)
            trial.point.trials.remove(trial)
        return None

    def _promotable(self) -> Trial | None:
        """Return the best paused trial that may go on and fits in the budget."""
        paused = map(self.spending.trial, self._pruner.candidates())
        return next((t for t in paused if self.spending.fits(self._target_of(t) - t.reached)), None)

    def is_new(self, params: Params) -> bool:
        """Return whether a point is untried."""
        return key_of(params) not in self._point_of

    def _may_begin_or_close(self) -> bool:
        """Return whether another point fits in budget and space now; if it never will, close the pruner."""
        cost = len(self._seeds) * self._pruner.target(None)
        may_begin = self.spending.counts_one_more() and self.spending.fits(cost)
        if not may_begin and not self._may_yet_begin():
            self._pruner.close()
        return may_begin

    def _is_spent(self) -> bool:
        """Return whether the budget is spent, or too many trials failed in a row."""
        return self._in_vain >= IN_VAIN or self.spending.is_over()

    def _may_yet_begin(self) -> bool:
        """Return whether running trials may leave enough of their share of the budget for another point."""
        return (
            self.spending.counts_one_more() and any(map(is_running, self.spending.trials)) and self.spending.fits(0.0)
        )


def _check(
    spec: SweepSpec, space: Space, budget: SweepBudgetSpec, objectives: Mapping[str, str], seeds: Sequence[int | None]
) -> None:
    """Check that the settings of a search agree.

    Raises:
        ConfigError: they do not; names the alternatives.
    """
    if spec.prune != "none" and len(objectives) > 1:
        raise ConfigError("sweep.prune: with several objectives nothing is pruned; sweep.prune=none")
    if spec.prune != "none" and len(seeds) > 1:
        raise ConfigError(
            f"sweep.prune = '{spec.prune}': a point with several seeds is not stopped early. Search with one seed, "
            "then repeat the choice with several, or set sweep.prune=none"
        )
    if space.size is None and not budget.limited:
        raise ConfigError(
            "sweep.budget: a search over an interval never ends by itself; set sweep.budget.trials, full_runs, "
            "steps, hours or money"
        )
    if budget.trials is not None and budget.trials < len(seeds):
        raise ConfigError(f"sweep.budget.trials = {budget.trials}: a point takes {len(seeds)}, one with each seed")
    if spec.prune == "none" and budget.full_runs is not None and budget.full_runs < len(seeds):
        raise ConfigError(f"sweep.budget.full_runs = {budget.full_runs:g}: a point takes {len(seeds)}")


def _pruner(spec: SweepSpec, budget: SweepBudgetSpec) -> Pruner:
    eta, least = spec.pruning.eta, spec.pruning.min_fraction
    match spec.prune:
        case "asha":
            return Asha(eta, least)
        case "successive_halving":
            return SuccessiveHalving(eta, least, budget.trials)
        case "hyperband":
            return Hyperband(eta, least)
        case "median":
            return Median(least, spec.pruning.warmup_trials)
    return Pruner()
