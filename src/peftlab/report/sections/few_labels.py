"""What the draw of a few labelled examples, and the pattern that puts the question, do to a score."""

from __future__ import annotations

from peftlab.report.analysis.few_labels import FewLabels, Tested, few_labels_of
from peftlab.report.analysis.results import Analysis
from peftlab.report.document import Block, Cell, Column, Paragraph, Section, Table, link_name
from peftlab.report.numbers import UNKNOWN, called, interval, level, listed, p_value, plural, score, unit
from peftlab.report.statistics.two_way import TwoWay


def section(analysis: Analysis) -> Section | None:
    """Return each method's score over draws and patterns, and the differences; None where nothing was drawn twice."""
    blocks: list[Block] = []
    for found in few_labels_of(analysis):
        blocks += [Paragraph(_introduction(found)), _methods(found, analysis.options.level)]
        if found.differences:
            blocks.append(_differences(found, analysis.options.level))
        if flagged := [one.name for one in found.methods if _exceeds(one)]:
            blocks.append(
                Paragraph(
                    f"Selected on more labels than they were trained on: {listed(flagged)}. With so many labels to "
                    "choose by, one would train on them: these are no scores of learning with few labels (Perez et al. "
                    "2021). budget.validation_per_class=N selects on N labels a class, budget.select=last on none."
                )
            )
    return Section("few-labels", "Few labels", tuple(blocks)) if blocks else None


def _introduction(found: FewLabels) -> str:
    without = "; a method without patterns is compared with each of the other's" if found.columns == "patterns" else ""
    return (
        f"Test {called(found.metric)} on {found.data or 'unnamed data'}, by method, draw of the training examples and "
        f"{found.columns[:-1]}. Another draw, and another of the {found.columns}, would have given another score: "
        "intervals are those of the crossed bootstrap, which draws both anew, and hold for one test set. Differences "
        f"are taken between equal draws and {found.columns}, so that what makes these hard cancels out{without}."
    )


def _methods(found: FewLabels, confidence: float) -> Table:
    percent = f" ({unit(found.metric)})" if unit(found.metric) else ""
    columns = (
        Column("Method"),
        Column("Draws", True),
        Column(found.columns.capitalize(), True),
        Column(f"Mean{percent}", True),
        Column(f"{level(confidence)} interval", False, f"over draws and {found.columns}"),
        Column("SD of draws", True),
        Column(f"SD of {found.columns}", True),
        Column("SD of the rest", True, "what a draw and a pattern make together, and noise"),
        Column("Trained on", True, "labels"),
        Column("Selected on", True, "labels"),
    )
    rows = tuple(_row(one, found.metric) for one in found.methods)
    left = sum(one.left_out for one in found.methods)
    out = f" {plural(left, 'cell')} of incomplete draws left out." if left else ""
    return Table(f"{_name(found)}-table", columns, rows, f"Over draws and {found.columns}.{out}")


def _row(one: Tested, metric: str) -> tuple[Cell, ...]:
    mean = one.mean
    draws, columns = mean.shape
    trained, selected = (sorted({budget[n] for budget in one.budgets}) for n in (0, 1))
    return (
        Cell(one.name),
        Cell(str(draws), draws),
        Cell(str(columns), columns),
        Cell(score(mean.value, metric), mean.value),
        Cell(_limits(mean, metric)),
        *(Cell(score(sd, metric), sd) for sd in (mean.rows_sd, mean.columns_sd, mean.rest_sd)),
        Cell(_range(trained), trained[-1] if trained else None),
        Cell(f"{_range(selected)}{' (!)' if _exceeds(one) else ''}", selected[-1] if selected else None),
    )


def _differences(found: FewLabels, confidence: float) -> Table:
    columns = (
        Column("Difference"),
        Column("Draws", True),
        Column(found.columns.capitalize(), True),
        Column("Mean", True, "points" if unit(found.metric) else ""),
        Column(f"{level(confidence)} interval", False, "of each difference alone"),
        Column("p", True, "Student's t with the same standard error, adjusted for all in the table (Holm)"),
    )
    adjusted = found.p_values
    rows = tuple(
        _difference(f"{pair[0]} \N{MINUS SIGN} {pair[1]}", of, adjusted[pair], 1 - confidence, found.metric)
        for pair, of in found.differences.items()
    )
    return Table(f"{_name(found)}-differences", columns, rows, f"Paired by draw and {found.columns[:-1]}.")


def _difference(name: str, of: TwoWay, p: float | None, risk: float, metric: str) -> tuple[Cell, ...]:
    is_apart = p is not None and p <= risk
    return (
        Cell(name),
        *(Cell(str(number), number) for number in of.shape),
        Cell(score(of.value, metric, signed=True), of.value, strong=is_apart),
        Cell(_limits(of, metric, signed=True)),
        Cell(p_value(p), p),
    )


def _limits(of: TwoWay, metric: str, signed: bool = False) -> str:
    """Return an interval; none where nothing varies, as then nothing is known of how much it could."""
    return interval(of.low, of.high, metric, signed) if of.se else UNKNOWN


def _exceeds(one: Tested) -> bool:
    """Return whether a run was selected on more labels than it was trained on."""
    return any(selected > trained for trained, selected in one.budgets)


def _range(numbers: list[int]) -> str:
    ends = dict.fromkeys(f"{number:,}" for number in numbers[:: max(1, len(numbers) - 1)])
    return " to ".join(ends) or UNKNOWN


def _name(found: FewLabels) -> str:
    return f"few-labels-{link_name(found.data or 'data')}-{link_name(found.metric)}"
