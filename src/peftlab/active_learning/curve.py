"""Scores over labels: what each query reaches with so many, its area, and how far it is from random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.report import html
from peftlab.report.document import Cell, Column, Document, Figure, Paragraph, Section, Table
from peftlab.report.drawing.drawn import draw_all
from peftlab.report.numbers import plural, possible
from peftlab.report.statistics.means import Mean, mean
from peftlab.storage.atomic import replacing

BASELINE = "random"
"""The query that the others are compared with, where it is among them; else the first."""


@dataclass(frozen=True)
class Curve:
    """The scores of a query."""

    query: str
    budgets: np.ndarray
    """Labels, or words, that could be asked for, at each point, shape (points,)."""
    scores: np.ndarray
    """Shape (seeds, points)."""
    metric: str = ""
    """What they are."""

    @property
    def points(self) -> list[Mean]:
        """The mean of the scores at each point, with its interval over seeds."""
        return [self._mean(of_point) for of_point in self.scores.T]

    @property
    def area(self) -> Mean:
        """The mean of the areas, with its interval over seeds."""
        return self._mean(self.areas)

    def _mean(self, scores: np.ndarray) -> Mean:
        over = mean(scores.tolist())
        low, high = possible(over.low, over.high, self.metric)
        return replace(over, low=low, high=high)

    @property
    def areas(self) -> np.ndarray:
        """The area under the curve of each seed over its width, by trapezoids: a mean score. Shape (seeds,)."""
        if len(self.budgets) == 1:
            return self.scores[:, 0]
        width = self.budgets[-1] - self.budgets[0]
        areas: np.ndarray = np.trapezoid(self.scores, self.budgets, axis=1) / width
        return areas


@dataclass(frozen=True)
class Outcome:
    """What a study shows."""

    metric: str
    unit: str
    """What the budgets count."""
    beside: int
    """Labels that decide besides those asked for: those of the data set's validation split."""
    curves: list[Curve]
    by_labels: tuple[str, ...] = ()
    """The settings by which labels of the whole pool have decided what is in it."""

    @property
    def labels_used(self) -> str:
        """Which labels were used that were not asked for, in a sentence or two."""
        told = []
        if self.by_labels:
            told.append(f"Labels of the whole pool decided what is in it: {', '.join(self.by_labels)}.")
        if self.beside:
            told.append(
                f"Besides, {self.beside:,} labels of the validation split chose checkpoints: they cost as much."
            )
        else:
            told.append(f"No {'other ' if told else ''}label was used that was not asked for.")
        return " ".join(told)

    @property
    def baseline(self) -> Curve:
        """The curve that the others are compared with."""
        return next((curve for curve in self.curves if curve.query == BASELINE), self.curves[0])

    def gain(self, curve: Curve) -> Mean:
        """Return the area minus that of the baseline, seed by seed, as they begin with the same sample."""
        return mean((curve.areas - self.baseline.areas).tolist())


def outcome(stages: Iterable[Mapping[str, Any]], unit: str) -> Outcome:
    """Return the curves of the facts that `study` returns, over the budgets that every seed and query has reached."""
    facts: dict[str, dict[int, dict[int, float]]] = {}
    beside, by_labels = 0, ()
    metric = ""
    for one in stages:
        facts.setdefault(one["query"], {}).setdefault(one["seed"], {})[one["budget"]] = one["score"]
        metric, beside, by_labels = one["metric"], one["beside"], tuple(one["pool_by_labels"])
    common = set.intersection(*(set(scores) for seeds in facts.values() for scores in seeds.values()))
    budgets = sorted(common)
    curves = [
        Curve(query, np.asarray(budgets), np.asarray([[own[n] for n in budgets] for own in seeds.values()]), metric)
        for query, seeds in facts.items()
    ]
    return Outcome(metric, unit, beside, curves, by_labels)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON values."""
    return {
        "metric": outcome.metric,
        "unit": outcome.unit,
        "beside": outcome.beside,
        "pool_by_labels": list(outcome.by_labels),
        "baseline": outcome.baseline.query,
        "curves": [
            {
                "query": curve.query,
                "budgets": curve.budgets.tolist(),
                "scores": curve.scores.tolist(),
                "points": [asdict(point) for point in curve.points],
                "area": asdict(curve.area),
                "gain": None if curve is outcome.baseline else asdict(outcome.gain(curve)),
            }
            for curve in outcome.curves
        ],
    }


def rows(outcome: Outcome) -> list[list[str]]:
    """Return the table of an outcome, with its head: a row a query."""
    budgets = outcome.baseline.budgets.tolist()
    shown = sorted({budgets[0], budgets[len(budgets) // 2], budgets[-1]})
    head = ["query", *(f"{budget:,} {outcome.unit}" for budget in shown), "area", f"minus {outcome.baseline.query}"]
    table = [head]
    for curve in outcome.curves:
        at = [_written(curve.points[budgets.index(budget)]) for budget in shown]
        gain = "" if curve is outcome.baseline else _interval(outcome.gain(curve))
        table.append([curve.query, *at, _written(curve.area), gain])
    return table


def document(outcome: Outcome, title: str) -> Document:
    """Return an outcome as a document of one section."""
    seeds = len(outcome.baseline.scores)
    band = "95 % interval of the mean over seeds" if seeds > 1 else ""
    series = [
        {
            "label": curve.query,
            "x": curve.budgets.tolist(),
            "mean": [point.value for point in curve.points],
            "low": [point.low for point in curve.points],
            "high": [point.high for point in curve.points],
        }
        for curve in outcome.curves
    ]
    data = {
        "x": {"label": f"{outcome.unit.capitalize()} asked for", "unit": "count"},
        "y": {"label": f"Test {outcome.metric}"},
        "series": series,
        "band": band,
    }
    head, *body = rows(outcome)
    table = Table(
        "areas",
        tuple(Column(name, numeric=n > 0) for n, name in enumerate(head)),
        tuple(tuple(map(Cell, row)) for row in body),
        f"Test {outcome.metric}; the area under the curve over its width is a mean score",
    )
    notes = [
        f"{plural(seeds, 'seed')}, each with a first random sample that all queries share, so that differences are "
        "paired. Intervals are 95 % by Student's t over seeds, on this one test set.",
        outcome.labels_used,
    ]
    figure = Figure("curve", "learning_curves", data, f"Test {outcome.metric} over the {outcome.unit} asked for")
    section = Section("curves", "Scores over labels", (figure, table, *map(Paragraph, notes)))
    return Document(title, "Made by peftlab.", [section])


def write_page(outcome: Outcome, title: str, file: Path) -> None:
    """Write an outcome as a page that loads nothing."""
    page = document(outcome, title)
    with replacing(file) as temporary:
        temporary.write_text(html.page(page, draw_all(page)), encoding="utf-8")


def _written(value: Mean) -> str:
    return f"{value.value:.4f}" if value.sd is None else f"{value.value:.4f} ±{value.sd:.4f}"


def _interval(value: Mean) -> str:
    return f"{value.value:+.4f}" + ("" if value.low is None else f" [{value.low:+.4f}, {value.high:+.4f}]")
