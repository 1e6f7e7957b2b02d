"""How the score grows with the number of training examples: a line a method over the sizes of its training split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftlab.report.analysis.results import Result, Row
from peftlab.report.document import Figure, Section
from peftlab.report.numbers import called
from peftlab.report.sections.scores import axis
from peftlab.report.sections.training import MOST_CURVES

SIZES = ("budget.train_examples", "budget.per_class")
"""The keys that set the size of the training split."""


def section(result: Result) -> Section | None:
    """Return the learning curve; None unless the comparison is over sizes of the training split."""
    comparison = result.comparison
    if not {*SIZES} & {*comparison.keys}:
        return None
    lines: dict[str, dict[int, Row]] = {}
    for row in result.rows:
        if (size := _size(row)) is not None:
            lines.setdefault(_but_size(row.group.values), {})[size] = row
    series = [_line(name, rows) for name, rows in lines.items() if len(rows) > 1]
    if not series:
        return None
    data = {
        "x": {"label": "Training examples", "unit": "count", "log": True},
        "y": axis(comparison.metric, f"test {called(comparison.metric)}"),
        "band": "interval over seeds and test sets" if result.units is not None else "interval over seeds",
        "series": series[:MOST_CURVES],
    }
    some = f" The first {MOST_CURVES} of {len(series)} lines." if len(series) > MOST_CURVES else ""
    caption = (
        f"Test {called(comparison.metric)} by the number of training examples, as the mean over seeds. The samples of "
        f"one seed are nested, so that neighbouring points share examples.{some}"
    )
    figure = Figure(f"{comparison.name}-sizes", "learning_curves", data, caption)
    return Section(f"{comparison.name}-sizes", "By number of training examples", (figure,))


def _size(row: Row) -> int | None:
    """Return the number of training examples of a row's runs; None if they differ or are not recorded."""
    sizes = {run.record.data["data"]["splits"].get("train", {}).get("rows") for run in row.group.final}
    return sizes.pop() if len(sizes) == 1 else None


def _but_size(values: Mapping[str, Any]) -> str:
    return " ".join(str(value) for key, value in values.items() if key not in SIZES) or "all"


def _line(name: str, rows: Mapping[int, Row]) -> dict[str, Any]:
    ordered = [rows[size] for size in sorted(rows)]
    return {
        "label": name,
        "x": sorted(rows),
        "mean": [row.value for row in ordered],
        "low": [row.whole.low for row in ordered],
        "high": [row.whole.high for row in ordered],
    }
