"""Samplers choose the next point of a search: at random, evenly spread, or from earlier scores.

The order of random and evenly spread points depends only on the seed of the search, however often the sweep is
interrupted. Model-based samplers ask Optuna, in a study that is rebuilt from all trials for each new point: so a
resumed sweep has all its knowledge, and a trial that was stopped and then resumed counts by its final outcome.
"""

from __future__ import annotations

import itertools
import math
import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from peftlab.errors import ConfigError
from peftlab.sweep.points import Point, key_of
from peftlab.sweep.space import Choice, Dimension, Params, Space, is_method
from peftlab.sweep.spec import SweepSpec

if TYPE_CHECKING:
    import optuna

TRIES = 20
"""How often a sampler is asked again after it returns a tried point."""


class Tried(Protocol):
    """The points that a search has tried."""

    points: list[Point]

    def is_new(self, params: Params) -> bool:
        """Return whether a point is untried."""


def make_sampler(spec: SweepSpec, space: Space, objectives: Mapping[str, str]) -> Sampler:
    """Return the sampler that `spec` asks for.

    Raises:
        ConfigError: the sampler does not support the space or several objectives.
    """
    width = len(_named(space))
    if spec.search == "qmc":
        return _Sequence(space, _even_shares(spec.seed, width))
    if spec.search == "random":
        return _Sequence(space, _random_shares(f"{spec.seed}", width))
    return _Model(spec, space, objectives)


class Sampler(ABC):
    """Chooses the points of a search."""

    @abstractmethod
    def next(self, tried: Tried) -> Params | None:
        """Return the next untried point; None if there is none."""


class _Sequence(Sampler):
    """A sequence of distinct points that depends only on a seed."""

    def __init__(self, space: Space, shares: Iterator[Sequence[float]]) -> None:
        self._points = _distinct(space, shares)

    def next(self, tried: Tried) -> Params | None:
        return next(filter(tried.is_new, self._points), None)


class _Model(Sampler):
    """Asks an Optuna sampler for the most promising point."""

    def __init__(self, spec: SweepSpec, space: Space, objectives: Mapping[str, str]) -> None:
        self._spec, self._space = spec, space
        self._dimensions = _named(space)
        self._directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if mode == "max" else "minimize" for mode in objectives.values()
        ]
        if spec.search == "cmaes":
            if len(objectives) > 1:
                raise ConfigError("sweep.search = 'cmaes': supports one objective only. Allowed: random, qmc, tpe, gp")
            if not any(_is_numeric(one) for one in space.dimensions_of(None)):
                raise ConfigError(
                    "sweep.search = 'cmaes': needs a dimension of numbers that all points have, an interval or values "
                    "that rise. Allowed for others: random, qmc, tpe, gp"
                )

    def next(self, tried: Tried) -> Params | None:
        number = len(tried.points)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about experimental features
            study = self._study(tried.points, number)
            for _ in range(TRIES):
                trial = study.ask()
                params = self._suggested(trial)
                if tried.is_new(params):
                    return params
                study.tell(trial, state=_state("failed"))
        shares = _random_shares(f"{self._spec.seed} {number}", len(self._dimensions))
        return next(filter(tried.is_new, _distinct(self._space, shares)), None)

    def _study(self, points: Sequence[Point], number: int) -> optuna.Study:
        """Return a study of the points so far."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = random.Random(f"{self._spec.seed} {number}").getrandbits(31)  # noqa: S311
        samplers = optuna.samplers
        sampler: optuna.samplers.BaseSampler
        if self._spec.search == "cmaes":
            pruned = self._spec.prune != "none"
            sampler = samplers.CmaEsSampler(
                seed=self._spec.seed,  # constant: it draws again for past points, too
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

        values = self._study_values(point.params)
        return optuna.trial.create_trial(
            state=_state(point.state),
            values=point.values if point.state == "completed" else None,
            params={name: value for name, (_, value) in values.items()},
            distributions={name: _distribution(one) for name, (one, _) in values.items()},
            intermediate_values=self._intermediate(point) if point.state == "paused" else None,
        )

    def _replay(self, study: optuna.Study, point: Point) -> None:
        """Replay a point: the state of the sampler depends on the generations that it has seen."""
        study.enqueue_trial({name: value for name, (_, value) in self._study_values(point.params).items()})
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
        """Return the running best score of a point by thousandths of its training."""
        better = max if self._directions[0] == "maximize" else min
        evaluations = sorted(point.trials[0].evaluations.items())
        finite = [(fraction, value) for fraction, value in evaluations if not math.isnan(value)]
        best = itertools.accumulate((value for _, value in finite), better)
        return {round(1000 * fraction): value for (fraction, _), value in zip(finite, best, strict=True)}

    def _study_values(self, params: Params) -> dict[str, tuple[Dimension, int | float]]:
        """Return each dimension of a point with its value in the study, by its name there."""
        method = self._space.method_of(params)
        values = {}
        for name, (only, one) in self._dimensions.items():
            if only in (None, method) and one.key in params and self._is_of(one, method):
                value = params[one.key]
                values[name] = (one, one.texts.index(str(value)) if isinstance(one, Choice) else value)
        return values  # type: ignore[return-value]

    def _is_of(self, one: Dimension, method: str | None) -> bool:
        return is_method(one.key) or one in self._space.dimensions_of(method)

    def _suggested(self, trial: optuna.Trial) -> Params:
        """Return the point that a trial of the study suggests."""
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


def _named(space: Space) -> dict[str, tuple[str | None, Dimension]]:
    """Return all dimensions by unique name, each with its option of `METHOD`, or None if all share it."""
    named: dict[str, tuple[str | None, Dimension]] = {one.key: (None, one) for one in space.dimensions}
    for method, own in space.conditional.items():
        named |= {f"{method}: {one.key}": (method, one) for one in own}
    return named


def _distinct(space: Space, shares: Iterator[Sequence[float]]) -> Iterator[Params]:
    """Yield distinct points at the given shares; once these only repeat, the rest in order."""
    seen: set[tuple[tuple[str, Any], ...]] = set()
    size, in_vain = space.size, 0
    names = list(_named(space).values())
    while size is None or len(seen) < size:
        if size is not None and in_vain > 50 * TRIES:
            yield from (params for params in space.points() if key_of(params) not in seen)
            return
        at = dict(zip(((only, one.key) for only, one in names), next(shares), strict=True))
        options = [one for only, one in names if only is None and is_method(one.key)]
        method = str(options[0].at(at[None, options[0].key])) if options else None
        params: dict[str, Any] = {}
        for one in space.dimensions_of(method):
            share = at.get((method or space.method, one.key), at.get((None, one.key), 0.0))
            params[one.key] = one.at(share)
        if key_of(params) in seen:
            in_vain += 1
        else:
            in_vain = 0
            seen.add(key_of(params))
            yield params


def _random_shares(seed: str, width: int) -> Iterator[Sequence[float]]:
    draw = random.Random(seed)  # noqa: S311
    while True:
        yield [draw.random() for _ in range(width)]


def _even_shares(seed: int, width: int) -> Iterator[Sequence[float]]:
    """Yield a scrambled Sobol sequence, balanced at every power of two (Owen 1998)."""
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
