"""One table for the decision: score, difference to the baseline, verdict, and cost."""

from __future__ import annotations

from peftlab.report.analysis.results import Result
from peftlab.report.document import Cell, Column, Section, Table
from peftlab.report.numbers import called, count, duration, gib, interval, level, money, score, unit
from peftlab.report.sections.cost import cost_of


def section(result: Result) -> Section | None:
    """Return the table; None if nothing was tested."""
    if not result.rows:
        return None
    comparison = result.comparison
    metric, price = comparison.metric, comparison.options.price_per_device_hour
    percent = f" ({unit(metric)})" if unit(metric) else ""
    columns = [Column(", ".join(comparison.keys)), Column(f"mean{percent}", True)]
    if result.pairs:
        columns += [Column("difference", True), Column(f"{level(comparison.options.level)} interval")]
        columns.append(Column("verdict"))
    costs = {row.name: cost_of(row.group, price) for row in result.ranked}
    columns += [Column("parameters", True), Column("memory", True), Column("time", True)]
    if price is not None:
        columns.append(Column("money", True))
    rows = []
    for row in result.ranked:
        cost = costs[row.name]
        cells = [Cell(row.name), Cell(score(row.value, metric), row.value)]
        if result.pairs:
            pair = result.pair(row.name)
            cells += (
                [Cell(""), Cell(""), Cell("baseline")]
                if pair is None
                else [
                    Cell(score(pair.difference.value, metric, True), pair.difference.value),
                    Cell(interval(pair.difference.low, pair.difference.high, metric, True), pair.difference.low),
                    Cell(pair.verdict.says, strong=pair.verdict.says in ("better", "worse")),
                ]
            )
        cells.append(Cell(count(cost.trainable), cost.trainable))
        cells.append(Cell(gib(cost.memory_gib), cost.memory_gib))
        cells.append(Cell(duration(cost.train_seconds), cost.train_seconds))
        if price is not None:
            cells.append(Cell(money(cost.money), cost.money))
        rows.append(tuple(cells))
    against = f", against {comparison.baseline.name}," if comparison.baseline and result.pairs else ""
    paid = "" if price is None else ", money in the currency of --price"
    several = max((pair.family for pair in result.pairs), default=0) > 1
    adjusted = "; verdicts are adjusted for all comparisons, intervals are not" if several else ""
    caption = (
        f"Test {called(metric)}{against} and what a run costs: trained parameters, peak memory, training time{paid}"
        f"{adjusted}"
    )
    table = Table(f"{comparison.name}-overview-table", tuple(columns), tuple(rows), caption)
    return Section(f"{comparison.name}-overview", "Score and cost", (table,))
