"""How the folds of a cross-validation differ, and what its scores are of."""

from __future__ import annotations

import statistics

from peftlab.report.analysis.groups import fold_of
from peftlab.report.analysis.results import Result, Row
from peftlab.report.document import Cell, Column, Paragraph, Section, Table
from peftlab.report.numbers import called, score, unit


def section(result: Result) -> Section | None:
    """Return the scores by fold; None unless runs were tested on folds."""
    runs = [run for row in result.rows for run in row.group.final]
    folds = sorted({fold for run in runs if any(fold := fold_of(run))})
    if not folds:
        return None
    comparison = result.comparison
    percent = f" ({unit(comparison.metric)})" if unit(comparison.metric) else ""
    columns = (
        Column(", ".join(comparison.keys)),
        *(Column(f"{number}/{of}{percent}", True, "mean over seeds") for number, of in folds),
        Column("SD over folds", True, "of the means"),
    )
    rows = tuple(_row(row, result, folds) for row in result.ranked)
    pooled = (
        "The answers to all folds of a seed are scored together, as those to one test split: each example of the "
        "training split is answered once, by a model that has not seen it. All other tables show that score. Its "
        "interval is over seeds and examples, and differences are taken example by example, so that easy and hard "
        "folds cancel out. The training sets of two folds overlap: the interval does not cover other training sets, "
        "and the spread over folds is no standard error (Bengio & Grandvalet 2004)."
        if result.units is not None
        else "Without predictions, the score of a seed is the mean over its folds, and intervals are over seeds alone."
    )
    caption = f"Test {called(comparison.metric)} by fold"
    table = Table(f"{comparison.name}-folds-table", columns, rows, caption)
    return Section(f"{comparison.name}-folds", "Cross-validation", (Paragraph(pooled), table))


def _row(row: Row, result: Result, folds: list[tuple[int, int]]) -> tuple[Cell, ...]:
    metric = result.comparison.metric
    means = []
    for fold in folds:
        of_fold = [result.comparison.score(run) for run in row.group.final if fold_of(run) == fold]
        known = [value for value in of_fold if value is not None]
        means.append(statistics.fmean(known) if known else None)
    there = [mean for mean in means if mean is not None]
    spread = statistics.stdev(there) if len(there) > 1 else None
    cells = [Cell(score(mean, metric), mean) for mean in means]
    return (Cell(row.name), *cells, Cell(score(spread, metric), spread))
