"""Every group against the baseline: the difference, how sure it is, and a verdict."""

from __future__ import annotations

from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from peftlab.report.numbers import (
    called,
    interval,
    level,
    listed,
    p_value,
    plural,
    points,
    score,
    unit,
)
from peftlab.report.sections.scores import axis, in_figures, only_some
from peftlab.report.statistics.comparison import FEWEST_SEEDS
from peftlab.report.statistics.comparison import Comparison as Pair


def section(result: Result) -> Section | None:
    """Return the comparison with the baseline; None if there is nothing to compare."""
    comparison = result.comparison
    if comparison.baseline is None or not result.pairs:
        return None
    blocks: list[Block] = [Paragraph(_explained(result)), _table(result), _figure(result)]
    blocks += [Paragraph(text) for text in (_tests(result), _power(result)) if text]
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
    adjusted = (
        "The p values and so the verdicts are adjusted for the family by Holm's method; the intervals are not, "
        "so that one may leave out 0 although the two are not told apart."
        if family > 1
        else "Neither p nor interval is adjusted."
    )
    named = (
        "named with --baseline"
        if comparison.options.baseline
        else "full fine-tuning or what is without an option, else the first group; --baseline names another"
    )
    metric, margin = comparison.metric, comparison.margin
    ties = (
        f"No difference is called a tie: {called(metric)} has no least and largest value that a margin could be a part "
        "of. --margin names a difference that does not matter; "
        if margin is None
        else f"“Tie” means that the difference is shown to be smaller than the margin, {points(margin, metric)} "
        "(--margin; two one-sided tests); "
    )
    neither = "neither a difference nor a tie is" if margin is not None else "no difference is"
    return (
        f"Each difference is the mean of the group minus that of {_baseline(result)}, {tests}, with an interval over "
        f"{sources}, for this difference alone. The baseline is {named}. The family of "
        f"{plural(family, 'comparison')} is all groups against it; neither depends on the scores. {adjusted} "
        f"{ties}“not told apart” means that {neither} shown. "
        f"With fewer than {FEWEST_SEEDS} seeds there is no verdict."
    )


def _table(result: Result) -> Table:
    comparison = result.comparison
    percent = f" ({unit(comparison.metric)})" if unit(comparison.metric) else ""
    ties = any(pair.verdict.says == "tie" for pair in result.pairs)
    adjusted = max(pair.family for pair in result.pairs) > 1
    columns = [
        Column(", ".join(comparison.keys)),
        Column("verdict"),
        Column(f"difference{percent}", True),
        Column("interval", note=f"level {level(comparison.options.level)}, of each alone"),
        Column("p", True, "adjusted by Holm's method" if adjusted else "not adjusted"),
        *([Column("p of a tie", True, "larger of the two one-sided tests")] if ties else []),
        Column("wins", True, "of all pairs of a run with one of the baseline; ties count half"),
        Column(
            "detectable",
            True,
            "smallest difference that the unadjusted test shows in 80 % of cases",
        ),
    ]
    rows = []
    for pair in _ranked(result):
        difference = pair.difference
        strong = pair.verdict.says in ("better", "worse")
        cells = [
            Cell(pair.first),
            Cell(pair.verdict.says, strong=strong),
            Cell(score(difference.value, comparison.metric, True), difference.value, strong),
            Cell(interval(difference.low, difference.high, comparison.metric, True), difference.low),
            Cell(p_value(pair.p_adjusted), pair.p_adjusted),
            *([Cell(p_value(pair.equivalence_p), pair.equivalence_p)] if ties else []),
            Cell(_wins(result, pair), pair.improvement.value),
            Cell(score(pair.detectable, comparison.metric), pair.detectable),
        ]
        rows.append(tuple(cells))
    caption = f"Test {called(comparison.metric)} against {_baseline(result)}"
    return Table(f"{comparison.name}-comparison-table", tuple(columns), tuple(rows), caption)


def _wins(result: Result, pair: Pair) -> str:
    """Return ``3 of 25``: the pairs of runs that the group wins."""
    pairs = len(result.row(pair.first).measured.seeds) * len(result.row(pair.second).measured.seeds)
    return f"{pair.improvement.value * pairs:g} of {pairs}"


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
        "margin": comparison.margin,
        "rows": rows,
    }
    band = "" if comparison.margin is None else "; the band is the margin within which they do not matter"
    caption = f"Differences to {baseline} with their intervals{band}.{only_some(result)}"
    return Figure(f"{comparison.name}-differences", "differences", data, caption)


def _tests(result: Result) -> str:
    """Say that other tests were made, and what so few seeds can show by the one that assumes least."""
    tests = {test.name: test for pair in result.pairs for test in pair.tests}
    if not tests:
        return ""
    risk = 1 - result.comparison.options.level
    weak = [f"{test.name} {p_value(test.floor)}" for test in tests.values() if test.floor > risk]
    text = (
        f"Other tests of the same differences ({listed(list(tests))}) do not decide; their p values are in report.json"
    )
    return f"{text}. With so few seeds, the least p that can come out is: {listed(weak)}." if weak else f"{text}."


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
    margin = points(result.comparison.margin, metric)
    return f"To show a true difference of {margin} in 80 % of cases would take, for {'; '.join(texts)}."


def _many(number: int) -> str:
    return f"{number:,}" if number <= 100_000 else "more than 100,000"
