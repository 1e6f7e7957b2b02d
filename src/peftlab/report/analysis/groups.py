"""Which runs may be compared, and which of them are repetitions of one another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from peftlab.errors import UserError, did_you_mean
from peftlab.report.analysis.options import MARGIN, Options
from peftlab.report.document import link_name
from peftlab.report.numbers import limits
from peftlab.report.study import Run, Study
from peftlab.scores.scorer import Direction

METHOD = "peft"

FOLD = "data.fold"
"""The key of the fold that a run of a cross-validation is tested on, such as ``2/5``."""

NO_AXES = ("seed", "name", "run_dir", "sweep_dir", "existing", "allow", "notice", "logger", "callbacks", "budget.test")
"""Overrides that differ between runs of one method, or change nothing."""

_MOST_VALUES = 8
"""A number with more values than this among the tested runs was searched, not chosen."""

_LESS_IS_BETTER = ("loss", "ece", "brier", "nll", "perplexity", "mse", "rmse", "mae", "error", "wer", "cer")
"""How the names of scores end of which the lower one is better, where neither run nor scorer says."""


@dataclass(frozen=True)
class Group:
    """The runs of one method, or of another choice: a row of a comparison."""

    name: str
    """Unique in its comparison, such as ``lora`` or ``lora fgm``."""
    values: Mapping[str, Any]
    """By the keys that make the groups."""
    runs: tuple[Run, ...]
    """Those that were completed and tested, by seed."""
    trials: tuple[Run, ...]
    """Those of a search that were completed or pruned, and not tested."""
    lost: tuple[Run, ...]
    """Those that failed, were interrupted, or still run."""

    @cached_property
    def by_seed(self) -> dict[int, tuple[Run, ...]]:
        """The run that counts for each seed, or those of all folds of a cross-validation, in their order.

        Of several runs of one seed and fold it is the one with the best validation score, else the newest. Models that
        were computed from the same run, such as two ensembles with a member in common, are no independent repetitions,
        and count as of one seed.
        """
        chosen: dict[tuple[int, tuple[int, int]], Run] = {}
        behind: dict[str, int | None] = {}
        for run in self.runs:
            seed = next((behind[parent] for parent in run.parents if parent in behind), run.seed)
            behind |= dict.fromkeys(run.parents, seed)
            key = (-1 if seed is None else seed, fold_of(run))
            if seed is not None and (key not in chosen or _rank(run) >= _rank(chosen[key])):
                chosen[key] = run
        seeds = dict.fromkeys(seed for seed, _ in chosen)
        return {seed: tuple(chosen[key] for key in sorted(chosen) if key[0] == seed) for seed in seeds}

    @property
    def final(self) -> tuple[Run, ...]:
        """The runs of `by_seed`."""
        return tuple(run for runs in self.by_seed.values() for run in runs)

    @property
    def everything(self) -> tuple[Run, ...]:
        """All its runs."""
        return (*self.runs, *self.trials, *self.lost)


@dataclass(frozen=True)
class Comparison:
    """Runs that may stand in one table: of one task, data set and score."""

    name: str
    """Names it in files and links."""
    task: str | None
    data: str | None
    metric: str
    direction: Direction
    keys: tuple[str, ...]
    """What makes the groups."""
    groups: tuple[Group, ...]
    baseline: Group | None
    """None: there is one group only."""
    options: Options

    @property
    def runs(self) -> tuple[Run, ...]:
        """The tested runs of all groups."""
        return tuple(run for group in self.groups for run in group.runs)

    @property
    def everything(self) -> tuple[Run, ...]:
        """All runs of all groups."""
        return tuple(run for group in self.groups for run in group.everything)

    @property
    def margin(self) -> float | None:
        """The difference that does not matter, see `Options.margin`; None: none is named and the score has no range."""
        low, high = limits(self.metric)
        if self.options.margin is not None or not math.isfinite(high - low):
            return self.options.margin
        return MARGIN * (high - low)

    def score(self, run: Run, split: str = "test") -> float | None:
        """Return the score that is compared; None if a run has none."""
        return run.score(split, self.metric)


def comparisons_of(study: Study, options: Options) -> tuple[tuple[Comparison, ...], tuple[Run, ...]]:
    """Return the comparisons of a study, those with the most tested runs first, and the runs that fit none of them.

    A run fits none if it ended before its record says what it is scored by, and no other run has its task and data.

    Raises:
        UserError: no group is called as `Options.baseline`, or no run has `Options.metric`.
    """
    of_kind: dict[_Kind, list[Run]] = {}
    unscored = []
    for run in study.runs:
        if (metric := options.metric or run.metric) is None or (options.metric and not _has(run, options.metric)):
            unscored.append(run)
            continue
        of_kind.setdefault(_Kind(*_place(run), metric, _direction(run, metric)), []).append(run)
    if options.metric and not of_kind:
        names = sorted(
            {score["name"] for run in study.runs for score in run.record.scores() if "/" not in score["name"]}
        )
        raise UserError(
            f"--metric {options.metric}: no run has that score.{did_you_mean(options.metric, names)} "
            f"The runs have: {', '.join(names) or 'none at all'}"
        )
    unplaced: list[Run] = []
    for run in unscored:
        fitting = [runs for kind, runs in of_kind.items() if (kind.task, kind.data) == _place(run)]
        (fitting[0] if len(fitting) == 1 else unplaced).append(run)
    kinds = sorted(of_kind.items(), key=lambda item: -sum(run.is_tested for run in item[1]))
    names = _names([kind for kind, _ in kinds])
    made = [_comparison(name, kind, runs, options) for name, (kind, runs) in zip(names, kinds, strict=True)]
    if options.baseline is not None and made and not any(_called(one.groups, options.baseline) for one in made):
        there = sorted({group.name for one in made for group in one.groups})
        raise UserError(
            f"--baseline {options.baseline}: no group has that name.{did_you_mean(options.baseline, there)} "
            f"The groups are: {'; '.join(there[:60])}"
        )
    return tuple(made), tuple(unplaced)


def fold_of(run: Run) -> tuple[int, int]:
    """Return the number of the fold that a run was tested on, and the number of folds; zeros if it is none."""
    number, slash, of = str(run.value(FOLD)).partition("/")
    return (int(number), int(of)) if slash and number.isdecimal() and of.isdecimal() else (0, 0)


def axes_of(tested: Sequence[Run], trials: Sequence[Run]) -> tuple[str, ...]:
    """Return the keys that differ between tested runs, but for the seed and what was tuned; the method comes first.

    Tuned is what differs between the trials of one method, and a number with many values.
    """
    tuned = {key for runs in _by(trials, METHOD).values() for key in _differing(runs)}
    axes = [key for key in _differing(tested) if key not in tuned and not _searched(key, tested)]
    if METHOD not in axes and len({_hashable(run.value(METHOD)) for run in tested}) > 1:
        axes.append(METHOD)
    return tuple(sorted(axes, key=lambda key: key != METHOD)) or (METHOD,)


def _differing(runs: Sequence[Run]) -> list[str]:
    """Return the keys whose overrides differ, and whose values do."""
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    written = [key for key in keys if key not in NO_AXES and len({run.overrides.get(key) for run in runs}) > 1]
    return [key for key in written if len({_value(run, key) for run in runs}) > 1]


def _searched(key: str, runs: Sequence[Run]) -> bool:
    values = {_hashable(run.value(key)) for run in runs}
    return len(values) > _MOST_VALUES and all(isinstance(value, int | float) for value in values)


class _Kind(NamedTuple):
    """What runs share that may stand in one table."""

    task: str | None
    data: str | None
    metric: str
    direction: Direction


def _comparison(name: str, kind: _Kind, runs: Sequence[Run], options: Options) -> Comparison:
    tested = [run for run in runs if run.is_tested]
    trials = [run for run in runs if not run.is_tested and run.status in ("completed", "pruned")]
    keys = options.by or axes_of(tested or trials, trials if tested else ())
    groups = _apart([_group(values, members) for values, members in _grouped(runs, keys).items()])
    return Comparison(name, *kind, keys, groups, _baseline(groups, options.baseline), options)


def _grouped(runs: Sequence[Run], keys: Sequence[str]) -> dict[tuple[tuple[str, Any], ...], list[Run]]:
    """Return the runs by the values of `keys`; models computed from runs never stand among runs that were trained."""
    grouped: dict[tuple[tuple[str, Any], ...], list[Run]] = {}
    for run in runs:
        made = (("derived", run.derivation),) if run.parents else ()
        own = dict.fromkeys((*keys, METHOD) if made else keys)
        grouped.setdefault((*((key, _value(run, key)) for key in own), *made), []).append(run)
    return grouped


def _group(values: tuple[tuple[str, Any], ...], runs: Sequence[Run]) -> Group:
    tested = sorted((run for run in runs if run.is_tested), key=lambda run: (run.seed is None, run.seed))
    trials = [run for run in runs if not run.is_tested and run.status in ("completed", "pruned")]
    lost = [run for run in runs if run.status not in ("completed", "pruned")]
    return Group(named(values), dict(values), tuple(tested), tuple(trials), tuple(lost))


def _apart(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Return the groups, with a number behind a name that several have: their values may differ in the last digits."""
    times = Counter(group.name for group in groups)
    return tuple(
        group if times[group.name] == 1 else replace(group, name=f"{group.name} ({number})")
        for number, group in enumerate(groups, 1)
    )


def named(values: Iterable[tuple[str, Any]]) -> str:
    """Return ``lora fgm lr=0.003``: options by their names, values behind the last part of their key."""
    return " ".join(
        f"{key.rpartition('.')[2]}={_text(value)}" if "." in key or not isinstance(value, str) else value
        for key, value in values
    )


def _text(value: Any) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _baseline(groups: Sequence[Group], name: str | None) -> Group | None:
    tested = [group for group in groups if group.runs]
    if name is not None and (called := _called(groups, name)) is not None:
        return called
    if len(tested) < 2:
        return None
    plain = ("full", "none", None, "default")
    return max(tested, key=lambda group: sum(value in plain for value in group.values.values()))


def _called(groups: Sequence[Group], name: str) -> Group | None:
    """Return the group called `name`, or the first that has it as one of its values, plain in the others."""
    exact = [group for group in groups if group.name == name]
    among = [group for group in groups if name in map(str, group.values.values())]
    plainest = sorted(among, key=lambda group: -sum(value in ("none", None) for value in group.values.values()))
    return next(iter([*exact, *plainest]), None)


def _names(kinds: Sequence[_Kind]) -> list[str]:
    names: list[str] = []
    for kind in kinds:
        name = "-".join(link_name(word) for word in kind[:3] if word)
        while name in names:
            name += "-2"
        names.append(name)
    return names


def _place(run: Run) -> tuple[str | None, str | None]:
    """Return the task and the data of a run; the task is unknown without a configuration."""
    task, data = run.value("task"), run.value("data")
    return (task if isinstance(task, str) else None), (None if data is None else str(data))


def _has(run: Run, metric: str) -> bool:
    return bool(run.record.scores(None, metric)) or not run.record.scores()


def _direction(run: Run, metric: str) -> Direction:
    if metric == run.metric:
        return run.direction
    known = run.scorer.directions.get(metric) if run.scorer else None
    return known or ("min" if metric.partition("/")[0].rpartition("_")[2] in _LESS_IS_BETTER else "max")


def _by(runs: Sequence[Run], key: str) -> dict[Any, list[Run]]:
    grouped: dict[Any, list[Run]] = {}
    for run in runs:
        grouped.setdefault(_hashable(run.value(key)), []).append(run)
    return grouped


def _hashable(value: Any) -> Any:
    return value if isinstance(value, Hashable) else str(value)


def _value(run: Run, key: str) -> Any:
    """Return the value of a key, by which runs are told apart: of a fold the number of folds, as folds are repeated."""
    if key == FOLD:
        return fold_of(run)[1] or None
    return _hashable(run.value(key))


def _rank(run: Run) -> float:
    value = run.record.data["selection"]["value"]
    return float("-inf") if value is None else value if run.direction == "max" else -value
