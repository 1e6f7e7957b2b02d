"""A plan that searches a space: at random, evenly spread, or by what has been found, within a budget.

The order of random and evenly spread points depends on nothing but the seed of the search, however often the sweep is
interrupted. What goes by what has been found asks Optuna, in a study that is made anew of all that is known whenever a
point is wanted: so a sweep that is resumed knows what it had known, and a trial that was stopped and then went on is
known by how it ended.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from peftlab.errors import ConfigError
from peftlab.sweep.plan import Begun, Evaluation, Outcome, Plan, Proposal
from peftlab.sweep.pruning import Asha, Hyperband, Median, Pruner, SuccessiveHalving
from peftlab.sweep.space import Choice, Dimension, Params, Space, is_method
from peftlab.sweep.spec import SweepBudgetSpec, SweepSpec

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("peftlab")

IN_VAIN = 20
"""So many failures in a row end a search that has nothing else to end it."""

TRIES = 20
"""How often a sampler is asked again that names a point which has been tried."""

_TINY = 1e-9


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
        if self.state == "completed" and (not last or 2 * last - before > 1 + _TINY):
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


class SearchPlan(Plan):
    """Proposes points of a space, each with all seeds, until the budget is spent or no point is left.

    Args:
        spec: how to search.
        space: where.
        objectives: by dotted key of the record, ``max`` or ``min``.
        budget: in place of that of `spec`.
        extra: overrides that its trials have beside those of their point.
        labels: of its trials.
        devices_per_trial: for how many devices an hour of a trial counts.

    Raises:
        ConfigError: such a search of such a space cannot be made.
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
        self._devices, self._seeds = devices_per_trial, space.seeds or (None,)
        self._check()
        self._pruner = _pruner(spec, self.budget)
        self._higher_is_better = next(iter(self.objectives.values())) == "max"
        self._trials: dict[Proposal, Trial] = {}
        self._point_of: dict[tuple[tuple[str, Any], ...], Point] = {}
        self._queue: list[Trial] = []
        """Trials that had been begun, or that belong to a point of which others have."""
        self._begun: set[Trial] = set()
        """Those in the queue that had been begun."""
        self._in_vain = 0
        """How many of the last trials have failed, one after another."""
        self._sampler = _sampler(spec, space, self.objectives)
        self.total = self._known_total()

    def _check(self) -> None:
        spec, size = self._spec, self.space.size
        if spec.prune != "none" and len(self.objectives) > 1:
            raise ConfigError("sweep.prune: with several objectives nothing is pruned; sweep.prune=none")
        if spec.prune != "none" and len(self._seeds) > 1:
            raise ConfigError(
                f"sweep.prune = '{spec.prune}': a point with several seeds is not stopped early. Search with one seed, "
                "then repeat what was chosen with several, or set sweep.prune=none"
            )
        if size is None and not self.budget.limited:
            raise ConfigError(
                "sweep.budget: a search over an interval never ends by itself; set sweep.budget.trials, full_runs, "
                "steps, hours or money"
            )
        if self.budget.trials is not None and self.budget.trials < len(self._seeds):
            raise ConfigError(
                f"sweep.budget.trials = {self.budget.trials}: a point takes {len(self._seeds)}, one with each seed"
            )

    def _known_total(self) -> int | None:
        limits = self.budget.limits
        if any(limits[name] is not None for name in ("full_runs", "steps", "hours", "money")):
            return None
        counts = [self.budget.trials and self.budget.trials // len(self._seeds), self.space.size]
        return min(count for count in counts if count is not None) * len(self._seeds)

    def ask(self) -> Proposal | None:
        """See `Plan.ask`: what was interrupted, then what is to be promoted, then a new point."""
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
    def over(self) -> bool:
        """See `Plan.over`."""
        if self._next_waiting() is not None:
            return False
        if self._is_spent():
            return True
        if self._may_begin_or_close() or self._may_yet_begin() or self._promotable() is not None:
            return False
        return self._spec.prune in ("none", "median") or not any(map(_is_running, self._all_trials()))

    @property
    def is_idle(self) -> bool:
        """Whether none of its trials is running or waiting."""
        return not any(trial.state in ("running", "waiting") for trial in self._all_trials())

    def report(self, proposal: Proposal, evaluation: Evaluation) -> bool:
        """See `Plan.report`."""
        trial = self._trials[proposal]
        trial.evaluations[evaluation.fraction] = evaluation.value
        goes_on = self._pruner.report(trial.number, evaluation.fraction, self._score(evaluation.value))
        if goes_on and evaluation.fraction < 1 and evaluation.fraction > trial.target - _TINY:
            further = self._pruner.target(trial.number)
            goes_on = self._fits(further - trial.reached)
            trial.target = further if goes_on else trial.target
        return goes_on

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """See `Plan.tell`."""
        trial = self._trials[proposal]
        self._see(trial, outcome.evaluations)
        trial.steps, trial.seconds = max(trial.steps, outcome.steps), max(trial.seconds, outcome.seconds)
        trial.values = outcome.values
        trial.state = "paused" if outcome.status == "pruned" else outcome.status
        self._in_vain = self._in_vain + 1 if outcome.status == "failed" else 0
        if self._in_vain == IN_VAIN:
            log.error("%d trials have failed one after another: the search ends", IN_VAIN)
        if outcome.status == "pruned":
            self._pruner.pause(trial.number)
        else:
            self._pruner.end(trial.number, completed=outcome.status == "completed")

    def recall(self, past: Sequence[tuple[Proposal, Outcome]], unfinished: Sequence[Begun] = ()) -> None:
        """See `Plan.recall`."""
        for proposal, outcome in past:
            trial = self._recalled(proposal)
            if trial is not None and trial.state == "waiting":
                trial.state = "running"
                self.tell(proposal, outcome)
        for proposal, evaluations in unfinished:
            if (trial := self._recalled(proposal)) is not None:
                self._see(trial, evaluations)
                self._pruner.let_pass(trial.number)  # else it had been pruned
                self._begun.add(trial)
        self._queue = [trial for trial in self._queue if trial.state == "waiting"]
        self._queue.sort(key=lambda trial: trial not in self._begun)

    def _see(self, trial: Trial, evaluations: Sequence[Evaluation]) -> None:
        for one in evaluations:
            trial.evaluations[one.fraction] = one.value
            self._pruner.see(trial.number, one.fraction, self._score(one.value))

    @property
    def examples(self) -> Sequence[Proposal]:
        """See `Plan.examples`."""
        seed = self._seeds[0]
        return [self._proposal(params, seed) for params in self.space.examples()]

    def labels_of(self, proposal: Proposal) -> Mapping[str, str] | None:
        """See `Plan.labels_of`."""
        return None if self._parsed(proposal) is None else self._labels

    @property
    def best(self) -> Point | None:
        """The best point, where there is one objective: of the completed ones, else of those that came furthest."""
        completed = [point for point in self.points if point.state == "completed"]
        if completed:
            return max(completed, key=lambda point: self._score(point.values[0]))
        begun = [p for p in self.points if p.state == "paused" and p.trials[0].evaluations]
        return max(begun, key=self._promise, default=None)

    @property
    def full_runs(self) -> float:
        """What has been spent, in trainings from beginning to end."""
        return math.fsum(trial.reached for trial in self._all_trials())

    def _promise(self, point: Point) -> tuple[float, float]:
        evaluations = point.trials[0].evaluations
        return max(evaluations), max(map(self._score, evaluations.values()))

    def _all_trials(self) -> Iterator[Trial]:
        return (trial for point in self.points for trial in point.trials)

    def _numbered(self, number: int) -> Trial:
        return next(trial for trial in self._all_trials() if trial.number == number)

    def _score(self, value: float) -> float:
        """Return a score of which the higher is the better; nan is worse than all."""
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
        """Return the trial that had been proposed, under just these overrides from now on."""
        parsed = self._parsed(proposal)
        if parsed is None:
            return None
        params, seed = parsed
        point = self._point_of.get(_key(params))
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
        """Take up a new point; its trials wait."""
        point = Point(params)
        self.points.append(point)
        self._point_of[_key(params)] = point
        for seed in self._seeds:
            trial = Trial(len(self._trials), point, self._proposal(params, seed))
            trial.target = self._pruner.target(None)
            point.trials.append(trial)
            self._trials[trial.proposal] = trial
            self._pruner.begin(trial.number)
            self._queue.append(trial)
        return point

    def _start(self, trial: Trial) -> Proposal:
        trial.target = self._pruner_target_after(trial)
        trial.state = "running"
        return trial.proposal

    def _pruner_target_after(self, trial: Trial) -> float:
        return max(self._pruner.target(trial.number), trial.target)

    def _next_waiting(self) -> Trial | None:
        """Return the next in the queue; where one seed of a point has failed, the others are not begun any more."""
        for trial in list(self._queue):
            if trial.point.state != "failed" or trial in self._begun:
                return trial
            self._queue.remove(trial)
            trial.point.trials.remove(trial)
        return None

    def _promotable(self) -> Trial | None:
        """Return the best paused trial that deserves to go on, and for which the budget has room."""
        paused = map(self._numbered, self._pruner.candidates())
        return next((t for t in paused if self._fits(self._pruner_target_after(t) - t.reached)), None)

    def is_new(self, params: Params) -> bool:
        """Return whether a point has not been tried."""
        return _key(params) not in self._point_of

    def _may_begin_or_close(self) -> bool:
        """Return whether budget and space have room for one more point, now; if not, nor later, the pruner is told."""
        cost = len(self._seeds) * self._pruner.target(None)
        may_begin = self._may_count_one_more() and self._fits(cost)
        if not may_begin and not self._may_yet_begin():
            self._pruner.close()
        return may_begin

    def _may_yet_begin(self) -> bool:
        """Return whether running trials may leave more of the budget than they are allowed, for one more point."""
        return self._may_count_one_more() and any(map(_is_running, self._all_trials())) and self._fits(0.0)

    def _may_count_one_more(self) -> bool:
        size, trials = self.space.size, self.budget.trials
        if size is not None and len(self.points) >= size:
            return False
        return trials is None or (len(self.points) + 1) * len(self._seeds) <= trials

    def _fits(self, cost: float) -> bool:
        """Return whether the budget of full runs has room for `cost`, running trials taken to come to their targets."""
        if self.budget.full_runs is None:
            return True
        held = math.fsum(max(t.reached, t.target if _is_running(t) else 0.0) for t in self._all_trials())
        return held + cost <= self.budget.full_runs + _TINY

    def _is_spent(self) -> bool:
        """Return whether what is known only afterwards has reached its limit, or nothing comes of it."""
        if self._in_vain >= IN_VAIN:
            return True
        hours = math.fsum(trial.seconds for trial in self._all_trials()) / 3600 * self._devices
        spent = {
            "full_runs": self.full_runs,
            "steps": sum(trial.steps for trial in self._all_trials()),
            "hours": hours,
            "money": hours * (self._spec.price_per_device_hour or 0.0),
        }
        limits = {name: limit for name, limit in self.budget.limits.items() if limit is not None}
        return any(spent.get(name, 0.0) >= limit - _TINY for name, limit in limits.items())


class _Sampler(ABC):
    """Names the next point that has not been tried; None: there is none."""

    @abstractmethod
    def next(self, plan: SearchPlan) -> Params | None:
        """Return it."""


class _Sequence(_Sampler):
    """A sequence of points without repetition that depends on nothing but a seed."""

    def __init__(self, space: Space, shares: Iterator[Sequence[float]]) -> None:
        self._points = _distinct(space, shares)

    def next(self, plan: SearchPlan) -> Params | None:
        return next(filter(plan.is_new, self._points), None)


class _Model(_Sampler):
    """Asks a sampler of Optuna's what is promising after all that is known."""

    def __init__(self, spec: SweepSpec, space: Space, objectives: Mapping[str, str]) -> None:
        self._spec, self._space = spec, space
        self._dimensions = _named(space)
        self._directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if mode == "max" else "minimize" for mode in objectives.values()
        ]
        if spec.search == "cmaes":
            if len(objectives) > 1:
                raise ConfigError("sweep.search = 'cmaes': knows one objective only. Allowed: random, qmc, tpe, gp")
            if not any(_is_numeric(one) for one in space.dimensions_of(None)):
                raise ConfigError(
                    "sweep.search = 'cmaes': wants a dimension of numbers that all points have, an interval or values "
                    "that rise. Allowed for others: random, qmc, tpe, gp"
                )

    def next(self, plan: SearchPlan) -> Params | None:
        number = len(plan.points)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this or that is experimental
            study = self._study(plan.points, number)
            for _ in range(TRIES):
                trial = study.ask()
                params = self._suggested(trial)
                if plan.is_new(params):
                    return params
                study.tell(trial, state=_state("failed"))
        shares = _random_shares(f"{self._spec.seed} {number}", len(self._dimensions))
        return next(filter(plan.is_new, _distinct(self._space, shares)), None)

    def _study(self, points: Sequence[Point], number: int) -> optuna.Study:
        """Return a study that knows the points."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = random.Random(f"{self._spec.seed} {number}").getrandbits(31)  # noqa: S311
        samplers = optuna.samplers
        sampler: optuna.samplers.BaseSampler
        if self._spec.search == "cmaes":
            pruned = self._spec.prune != "none"
            sampler = samplers.CmaEsSampler(
                seed=self._spec.seed,  # the same: it draws for the points of the past, too
                independent_sampler=samplers.RandomSampler(seed=seed),
                consider_pruned_trials=pruned,
                warn_independent_sampling=False,
            )
        elif self._spec.search == "gp":
            sampler = samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        else:
            sampler = samplers.TPESampler(seed=seed, multivariate=True, group=bool(self._space.conditional))
        study = optuna.create_study(sampler=sampler, directions=self._directions)
        for point in points:
            if self._spec.search == "cmaes":
                self._replay(study, point)
            else:
                study.add_trial(self._frozen(point))
        return study

    def _frozen(self, point: Point) -> optuna.trial.FrozenTrial:
        import optuna

        known = self._known(point.params)
        return optuna.trial.create_trial(
            state=_state(point.state),
            values=point.values if point.state == "completed" else None,
            params={name: value for name, (_, value) in known.items()},
            distributions={name: _distribution(one) for name, (one, _) in known.items()},
            intermediate_values=self._intermediate(point) if point.state == "paused" else None,
        )

    def _replay(self, study: optuna.Study, point: Point) -> None:
        """Have the sampler see a point in its turn: its state is that of the generations that it has seen."""
        study.enqueue_trial({name: value for name, (_, value) in self._known(point.params).items()})
        trial = study.ask()
        self._suggested(trial)
        if point.state == "completed":
            study.tell(trial, list(point.values))
        elif point.state == "paused":
            for step, value in self._intermediate(point).items():
                trial.report(value, step)
            study.tell(trial, state=_state("paused"))
        elif point.state == "failed":
            study.tell(trial, state=_state("failed"))

    def _intermediate(self, point: Point) -> dict[int, float]:
        """Return the best score so far of a point by thousandths of its training."""
        better = max if self._directions[0] == "maximize" else min
        evaluations = sorted(point.trials[0].evaluations.items())
        known = [(fraction, value) for fraction, value in evaluations if not math.isnan(value)]
        best = itertools.accumulate((value for _, value in known), better)
        return {round(1000 * fraction): value for (fraction, _), value in zip(known, best, strict=True)}

    def _known(self, params: Params) -> dict[str, tuple[Dimension, int | float]]:
        """Return by name in the study the dimensions of a point, and its values as the study has them."""
        method = self._space.method_of(params)
        found = {}
        for name, (only, one) in self._dimensions.items():
            if only in (None, method) and one.key in params and self._is_of(one, method):
                value = params[one.key]
                found[name] = (one, one.texts.index(str(value)) if isinstance(one, Choice) else value)
        return found  # type: ignore[return-value]

    def _is_of(self, one: Dimension, method: str | None) -> bool:
        return is_method(one.key) or one in self._space.dimensions_of(method)

    def _suggested(self, trial: optuna.Trial) -> Params:
        """Return the point that a trial of the study stands for."""
        chosen: dict[str, Any] = {}
        method = self._space.method
        ordered = sorted(self._dimensions.items(), key=lambda item: not is_method(item[1][1].key))
        for name, (only, one) in ordered:
            if only not in (None, method) or not self._is_of(one, method):
                continue
            chosen[one.key] = _suggest(trial, name, one)
            if is_method(one.key):
                method = chosen[one.key]
        return {one.key: chosen[one.key] for one in self._space.dimensions_of(method)}


def _sampler(spec: SweepSpec, space: Space, objectives: Mapping[str, str]) -> _Sampler:
    width = len(_named(space))
    if spec.search == "qmc":
        return _Sequence(space, _even_shares(spec.seed, width))
    if spec.search == "random":
        return _Sequence(space, _random_shares(f"{spec.seed}", width))
    return _Model(spec, space, objectives)


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


def _named(space: Space) -> dict[str, tuple[str | None, Dimension]]:
    """Return all dimensions by a name of their own, with the option of `METHOD` that has them, None where all may."""
    named: dict[str, tuple[str | None, Dimension]] = {one.key: (None, one) for one in space.dimensions}
    for method, own in space.conditional.items():
        named |= {f"{method}: {one.key}": (method, one) for one in own}
    return named


def _distinct(space: Space, shares: Iterator[Sequence[float]]) -> Iterator[Params]:
    """Yield points at the shares of their dimensions, each once; where they only repeat themselves, the others."""
    seen: set[tuple[tuple[str, Any], ...]] = set()
    size, in_vain = space.size, 0
    names = list(_named(space).values())
    while size is None or len(seen) < size:
        if size is not None and in_vain > 50 * TRIES:
            yield from (params for params in space.points() if _key(params) not in seen)
            return
        at = dict(zip(((only, one.key) for only, one in names), next(shares), strict=True))
        options = [one for only, one in names if only is None and is_method(one.key)]
        method = str(options[0].at(at[None, options[0].key])) if options else None
        params: dict[str, Any] = {}
        for one in space.dimensions_of(method):
            share = at.get((method or space.method, one.key), at.get((None, one.key), 0.0))
            params[one.key] = one.at(share)
        if _key(params) in seen:
            in_vain += 1
        else:
            in_vain = 0
            seen.add(_key(params))
            yield params


def _random_shares(seed: str, width: int) -> Iterator[Sequence[float]]:
    draw = random.Random(seed)  # noqa: S311
    while True:
        yield [draw.random() for _ in range(width)]


def _even_shares(seed: int, width: int) -> Iterator[Sequence[float]]:
    """Yield a scrambled Sobol sequence, which is balanced whenever their number is a power of two (Owen 1998)."""
    from scipy.stats import qmc

    engine = qmc.Sobol(max(width, 1), rng=seed)
    while True:
        yield list(map(float, engine.random(1)[0][:width]))


def _distribution(one: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(one, Choice):
        return IntDistribution(0, one.size - 1) if one.ordered else CategoricalDistribution(range(one.size))
    if one.integer:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)


def _suggest(trial: optuna.Trial, name: str, one: Dimension) -> str | int | float:
    if isinstance(one, Choice):
        if one.ordered:
            return one.texts[trial.suggest_int(name, 0, one.size - 1)]
        return one.texts[trial.suggest_categorical(name, range(one.size))]
    if one.integer:
        return trial.suggest_int(name, int(one.low), int(one.high), log=one.log)
    return trial.suggest_float(name, one.low, one.high, log=one.log)


def _state(state: str) -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    names = {"completed": "COMPLETE", "failed": "FAIL", "paused": "PRUNED", "running": "RUNNING"}
    return TrialState[names[state]]


def _is_numeric(one: Dimension) -> bool:
    return one.ordered if isinstance(one, Choice) else one.low < one.high


def _is_running(trial: Trial) -> bool:
    return trial.state in ("running", "waiting")


def _key(params: Params) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))
