"""Runs on few labels: each method over the draws of its training examples, and over patterns or seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from peftlab.report.analysis.groups import METHOD, named
from peftlab.report.analysis.results import Analysis
from peftlab.report.numbers import possible
from peftlab.report.statistics.two_way import TwoWay, crossed, paired_crossed
from peftlab.report.study import Run
from peftlab.runs.label_budget import label_budget_of
from peftlab.scores.paired import holm_of_known
from peftlab.scores.scorer import Direction

DRAW, PATTERN = "budget.sample_seed", "task.template"
"""The keys of the draw of the training examples, and of the pattern that puts the question."""
SAMPLES = ("budget.per_class", "budget.train_examples", "budget.listed")
"""The keys of the sample's size: one of them is set where examples are drawn."""

_MOST = 6
"""Methods that are compared in pairs."""


@dataclass(frozen=True)
class Tested:
    """A method over draws and patterns."""

    name: str
    cells: Mapping[tuple[Any, Any], float]
    """By draw and column, a pattern or a seed: the mean of the scores."""
    mean: TwoWay
    """Over the draws that were made with all columns."""
    left_out: int
    """Cells of other draws."""
    budgets: frozenset[tuple[int, int]]
    """The labels that runs were trained on, and selected on, as far as the records say."""


@dataclass(frozen=True)
class FewLabels:
    """The methods that were tested on one data set with few labels."""

    data: str | None
    metric: str
    direction: Direction
    columns: str
    """What the columns are: ``patterns`` or ``seeds``."""
    methods: tuple[Tested, ...]
    """The best first."""
    differences: Mapping[tuple[str, str], TwoWay]
    """By two methods: the first minus the second, on the draws and columns that both have."""

    @property
    def p_values(self) -> dict[tuple[str, str], float | None]:
        """The p value of each difference, adjusted for all of them (Holm 1979); None where nothing is known."""
        adjusted = holm_of_known([of.p() for of in self.differences.values()])
        return dict(zip(self.differences, adjusted, strict=True))


def few_labels_of(analysis: Analysis) -> tuple[FewLabels, ...]:
    """Return the runs of each data set and score over several draws, or patterns, of a sample of its labels."""
    found: dict[tuple[str | None, str, Direction], dict[str, list[tuple[Run, float]]]] = {}
    for result in analysis.results:
        comparison = result.comparison
        keys = [key for key in dict.fromkeys((METHOD, *comparison.keys)) if key not in (DRAW, PATTERN, "seed")]
        several = len({one.comparison.task for one in analysis.results}) > 1
        for run in comparison.runs:
            score = comparison.score(run)
            if score is None or all(run.value(key) is None for key in SAMPLES):
                continue
            name = named((("task", comparison.task),) * several + tuple((key, run.value(key)) for key in keys))
            place = comparison.data, comparison.metric, comparison.direction
            found.setdefault(place, {}).setdefault(name, []).append((run, score))
    made = (_few_labels(*place, methods, analysis.options.level) for place, methods in found.items())
    return tuple(one for one in made if one is not None)


def _few_labels(
    data: str | None, metric: str, direction: Direction, runs: Mapping[str, Sequence[tuple[Run, float]]], level: float
) -> FewLabels | None:
    """Return the methods; None if there is neither a second draw nor a second pattern."""
    everything = [run for of_method in runs.values() for run, _ in of_method]
    draws, patterns = ({_column(run, key) for run in everything} for key in (DRAW, PATTERN))
    if len(draws) < 2 and len(patterns) < 2:
        return None
    column = PATTERN if len(patterns - {None}) > 1 else "seed"
    methods = [_tested(name, own, column, metric, level) for name, own in runs.items()]
    methods.sort(key=lambda one: (-one.mean.value if direction == "max" else one.mean.value, one.name))
    differences = dict(_differences(methods[:_MOST], level))
    columns = "patterns" if column == PATTERN else "seeds"
    return FewLabels(data, metric, direction, columns, tuple(methods), differences)


def _tested(name: str, runs: Sequence[tuple[Run, float]], column: str, metric: str, level: float) -> Tested:
    scores: dict[tuple[Any, Any], list[float]] = {}
    for run, score in runs:
        scores.setdefault((_column(run, DRAW), _column(run, column)), []).append(score)
    cells = {place: statistics.fmean(of_cell) for place, of_cell in scores.items()}
    table = _table(cells, *_whole(cells))
    sections = [label_budget_of(run.record) for run, _ in runs]
    budgets = {(one.trained_on, one.selected_on) for one in sections if one is not None}
    mean = crossed(table, level=level)
    low, high = possible(mean.low, mean.high, metric)
    return Tested(name, cells, replace(mean, low=low, high=high), len(cells) - table.size, frozenset(budgets))


def _differences(methods: Sequence[Tested], level: float) -> Iterator[tuple[tuple[str, str], TwoWay]]:
    """Yield the difference of each two methods, where both have a draw with the same columns, or one has no columns."""
    for first, second in combinations(methods, 2):
        sides = [one.cells for one in (first, second)]
        draws, columns = ([{place[n] for place in cells} for cells in sides] for n in (0, 1))
        common = columns[0] & columns[1]
        # a method without patterns stands beside each pattern of the other
        own = [common, common] if common else columns if min(map(len, columns)) == 1 else None
        if own is None:
            continue
        shared = [
            draw
            for draw in draws[0] & draws[1]
            if all((draw, column) in cells for cells, of in zip(sides, own, strict=True) for column in of)
        ]
        if shared:
            one, other = (_table(cells, shared, of) for cells, of in zip(sides, own, strict=True))
            yield (first.name, second.name), paired_crossed(one, other, level=level)


def _whole(cells: Mapping[tuple[Any, Any], float]) -> tuple[list[Any], list[Any]]:
    """Return the draws with the most columns, and these: the part of a table without gaps."""
    by_draw: dict[Any, frozenset[Any]] = {
        draw: frozenset(column for other, column in cells if other == draw) for draw, _ in cells
    }
    columns = max(by_draw.values(), key=lambda own: len(own) * sum(own <= other for other in by_draw.values()))
    return [draw for draw, own in by_draw.items() if columns <= own], list(columns)


def _table(cells: Mapping[tuple[Any, Any], float], draws: Iterable[Any], columns: Iterable[Any]) -> np.ndarray:
    """Return the values, shape (draws, columns), each in a fixed order."""
    ordered = sorted(columns, key=str)
    return np.asarray([[cells[draw, column] for column in ordered] for draw in sorted(draws, key=str)])


def _column(run: Run, key: str) -> Any:
    value = run.value(key)
    return tuple(value) if isinstance(value, list) else value
