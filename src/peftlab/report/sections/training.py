"""How the runs came to their scores: validation scores on the way, epochs, and where they stopped."""

from __future__ import annotations

import statistics
from typing import Any

from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from peftlab.report.numbers import UNKNOWN, called, possible
from peftlab.report.sections.scores import axis
from peftlab.report.statistics.means import mean
from peftlab.report.study import Run

MOST_CURVES = 8
"""Curves that can be told apart in one figure."""


def section(result: Result) -> Section | None:
    """Return how the tested runs were trained; None if there are none."""
    if not result.rows:
        return None
    name = result.comparison.name
    blocks: list[Block] = [_table(result)]
    shown = [row.group for row in result.ranked[:MOST_CURVES]]
    baseline = result.comparison.baseline
    if baseline is not None and baseline.name not in [group.name for group in shown] and baseline.runs:
        shown[-1] = baseline
    series = [one for group in shown if (one := _curve(group, result)) is not None]
    if series:
        metric = result.comparison.metric
        data = {
            "x": {"label": "Optimiser step", "unit": "count", "log": False},
            "y": axis(metric, f"validation {called(metric)}"),
            "band": "interval over seeds",
            "series": series,
        }
        left = len(result.rows) - len(shown)
        some = f" The {len(shown)} best of {len(result.rows)} groups, with the baseline." if left else ""
        caption = f"Validation {called(metric)} while training: mean over seeds.{some}"
        blocks.append(Figure(f"{name}-curves", "learning_curves", data, caption))
    else:
        blocks.append(Paragraph("The runs were validated once each, at their end: there are no learning curves."))
    return Section(f"{name}-training", "Training", tuple(blocks))


def validations(run: Run, metric: str) -> list[tuple[int, float]]:
    """Return the optimiser steps and scores of the validations of a run."""
    events = (event for event in run.record.events("validated") if event.get("step") is not None)
    return [(event["step"], event[metric]) for event in events if isinstance(event.get(metric), int | float)]


def _curve(group: Group, result: Result) -> dict[str, Any] | None:
    at: dict[int, list[float]] = {}
    for run in group.final:
        for step, value in dict(validations(run, result.comparison.metric)).items():
            at.setdefault(step, []).append(value)
    if len(at) < 2:
        return None
    means = [mean(at[step], result.comparison.options.level) for step in sorted(at)]
    limits = [possible(one.low, one.high, result.comparison.metric) for one in means]
    return {
        "label": group.name,
        "x": sorted(at),
        "mean": [one.value for one in means],
        "low": [low for low, _ in limits],
        "high": [high for _, high in limits],
    }


def _table(result: Result) -> Table:
    columns = (
        Column(", ".join(result.comparison.keys)),
        Column("epochs", True, "of each run, from the fewest to the most"),
        Column("steps", True),
        Column("best step", True, "of the checkpoint that was tested"),
        Column("validations", True),
        Column("effective batch", True),
    )
    rows = []
    for row in result.ranked:
        runs = row.group.final
        records = [run.record.data for run in runs]
        rows.append(
            (
                Cell(row.name),
                _range([record["cost"]["epochs"] for record in records], "{:g}"),
                _range([record["cost"]["steps"] for record in records], "{:,}"),
                _range([record["selection"]["step"] for record in records], "{:,}"),
                _range([len(validations(run, result.comparison.metric)) for run in runs], "{:,}"),
                _range([record["environment"].get("effective_batch_size") for record in records], "{:,}"),
            )
        )
    return Table(f"{result.comparison.name}-training-table", columns, tuple(rows), "How long the tested runs trained")


def _range(values: list[Any], form: str) -> Cell:
    there = [value for value in values if value is not None]
    if not there:
        return Cell(UNKNOWN)
    low, high = min(there), max(there)
    text = form.format(low) if low == high else f"{form.format(low)} to {form.format(high)}"
    return Cell(text, statistics.fmean(there))
