"""Every group against the baseline: the difference, how sure it is, and a verdict."""

from __future__ import annotations

from peftlab.report.analysis.results import FEWEST_SEEDS, Result
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from peftlab.report.numbers import (
    UNKNOWN,
    called,
    interval,
    level,
    listed,
    p_value,
    plural,
    points,
    score,
    share,
    unit,
)
from peftlab.report.sections.scores import axis, in_figures, only_some
from peftlab.report.statistics.comparison import Comparison as Pair
from peftlab.report.statistics.significance import PValue


def section(result: Result) -> Section | None:
    """Return the comparison with the baseline; None if there is nothing to compare."""
    comparison = result.comparison
    if comparison.baseline is None or not result.pairs:
        return None
    blocks: list[Block] = [Paragraph(_explained(result)), _table(result), _figure(result), _tests(result)]
    blocks += [Paragraph(text) for text in (_power(result), _dominance(result)) if text]
    return Section(f"{comparison.name}-comparison", f"Compared with {comparison.baseline.name}", tuple(blocks))


def _explained(result: Result) -> str:
    comparison = result.comparison
    family = max(pair.family for pair in result.pairs)
    tests = (
        "on the differences of paired seeds"
        if all(pair.paired for pair in result.pairs)
        else "the seeds of both taken as independent"
    )
    sources = "seeds and test sets" if result.units is not None else "seeds alone, as there are no predictions"
    return (
        f"Each difference is the mean of the group minus that of {_baseline(result)}, {tests}, with an interval over "
        f"{sources}. The family of {plural(family, 'comparison')}, all groups against the baseline, was fixed before "
        "looking at a score, and p values are adjusted for it by Holm's method. "
        f"“Tie” means that the difference is surely smaller than {points(comparison.options.margin, comparison.metric)}"
        " (two one-sided tests); “not told apart” means that neither a difference nor a tie is shown. "
        f"With fewer than {FEWEST_SEEDS} seeds there is no verdict."
    )


def _table(result: Result) -> Table:
    comparison = result.comparison
    percent = f" ({unit(comparison.metric)})" if unit(comparison.metric) else ""
    columns = (
        Column(", ".join(comparison.keys)),
        Column(f"difference{percent}", True),
        Column("interval", note=f"level {level(comparison.options.level)}"),
        Column("p", True, "adjusted by Holm's method"),
        Column("p of a tie", True, "larger of the two one-sided tests"),
        Column("chance to be better", True, "probability of improvement of one run over another"),
        Column("detectable", True, "smallest difference that such a comparison shows in 80 % of cases"),
        Column("verdict"),
    )
    rows = []
    for pair in _ranked(result):
        difference, chance = pair.difference, pair.improvement
        strong = pair.verdict.says in ("better", "worse")
        rows.append(
            (
                Cell(pair.first),
                Cell(score(difference.value, comparison.metric, True), difference.value, strong),
                Cell(interval(difference.low, difference.high, comparison.metric, True), difference.low),
                Cell(p_value(pair.p_adjusted), pair.p_adjusted),
                Cell(p_value(pair.equivalence_p), pair.equivalence_p),
                Cell(share(chance.value), chance.value),
                Cell(score(pair.detectable, comparison.metric), pair.detectable),
                Cell(pair.verdict.says, strong=strong),
            )
        )
    caption = f"Test {called(comparison.metric)} against {_baseline(result)}"
    return Table(f"{comparison.name}-comparison-table", columns, tuple(rows), caption)


def _baseline(result: Result) -> str:
    return result.comparison.baseline.name if result.comparison.baseline else ""


def _ranked(result: Result) -> list[Pair]:
    order = {row.name: place for place, row in enumerate(result.ranked)}
    return sorted(result.pairs, key=lambda pair: order[pair.first])


def _figure(result: Result) -> Figure:
    comparison = result.comparison
    shown = {row.name for row in in_figures(result)}
    rows = [
        {
            "label": pair.first,
            "difference": {"value": pair.difference.value, "low": pair.difference.low, "high": pair.difference.high},
            "verdict": pair.verdict.says,
        }
        for pair in _ranked(result)
        if pair.first in shown
    ]
    baseline = _baseline(result)
    data = {
        "x": axis(comparison.metric, f"difference in {called(comparison.metric)}"),
        "baseline": baseline,
        "better": comparison.direction,
        "margin": comparison.options.margin,
        "rows": rows,
    }
    caption = f"Differences to {baseline} with their intervals; the band is the margin within which they do not matter."
    caption += only_some(result)
    return Figure(f"{comparison.name}-differences", "differences", data, caption)


def _tests(result: Result) -> Table:
    names = dict.fromkeys(test.name for pair in result.pairs for test in pair.tests)
    columns = [Column(", ".join(result.comparison.keys)), Column("t", True, "p of the verdict, not adjusted")]
    columns += [Column(name, True, "p, and the smallest that the design can reach") for name in names]
    rows = []
    for pair in _ranked(result):
        of_pair = {test.name: test for test in pair.tests}
        cells = [Cell(pair.first), Cell(p_value(pair.p), pair.p)]
        for name in names:
            test = of_pair.get(name)
            text = _with_floor(test)
            cells.append(Cell(text, test.p if test else None))
        rows.append(tuple(cells))
    caption = "Other tests of the same differences, not adjusted; they decide nothing"
    return Table(f"{result.comparison.name}-tests-table", tuple(columns), tuple(rows), caption)


def _with_floor(test: PValue | None) -> str:
    """Return a p value, with the smallest one of the design where that limits what can be shown."""
    if test is None:
        return UNKNOWN
    return p_value(test.p) if test.floor < 0.001 else f"{p_value(test.p)} (at least {p_value(test.floor)})"


def _power(result: Result) -> str:
    metric = result.comparison.metric
    open_ones = [pair for pair in result.pairs if pair.verdict.says == "not told apart"]
    if not open_ones:
        return ""
    texts = []
    for pair in open_ones[:6]:
        if (needed := pair.needed) is None:
            continue
        ways = []
        if needed.seeds is not None:
            ways.append(f"{_many(needed.seeds)} seeds each on this test split")
        if needed.clusters is not None:
            units = "groups" if result.units == "groups" else "examples"
            ways.append(f"{_many(needed.clusters)} test {units} with these seeds")
        how = " or ".join(ways) if ways else "more seeds and a larger test set together"
        texts.append(f"{pair.first}: {how}")
    if not texts:
        return ""
    margin = points(result.comparison.options.margin, metric)
    return f"To show a true difference of {margin} in 80 % of cases would take, for {'; '.join(texts)}."


def _many(number: int) -> str:
    return f"{number:,}" if number <= 100_000 else "more than 100,000"


def _dominance(result: Result) -> str:
    with_it = [pair for pair in result.pairs if pair.dominance is not None]
    if not with_it:
        return ""
    below = [pair.first for pair in with_it if pair.dominance is not None and pair.dominance.dominates]
    dominance = with_it[0].dominance
    assert dominance is not None
    return (
        f"Almost stochastic order over the baseline (ε below {dominance.threshold:g}): {listed(below, 12)}. "
        f"Take it with care: with {dominance.first} and {dominance.second} seeds, {share(dominance.false_wins)} of "
        "comparisons between equal methods come out so."
    )
