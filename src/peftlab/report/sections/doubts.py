"""What weakens a result although its runs are sound: findings that follow from the scores and their statistics."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from peftlab.report.analysis.options import MARGIN
from peftlab.report.analysis.results import Result
from peftlab.report.document import Finding
from peftlab.report.numbers import called, listed, p_value, points, score
from peftlab.report.sections.search import tuned
from peftlab.report.sections.training import validations
from peftlab.report.statistics.comparison import Comparison as Pair

DOUBTS = ("edge_of_search", "still_improving", "tests_disagree", "unstable", "small_for_the_design")
"""The names of the findings."""

_FEWEST_VALUES = 3
"""Of fewer values tried, the best always lies at an edge."""
_SHOWN = 6
_COLLAPSED = 20
"""A seed that is so many margins worse than the median of its group has collapsed."""


def findings(result: Result) -> Iterator[Finding]:
    """Yield what the reader should doubt in a result."""
    yield from _edges(result)
    yield from _improving(result)
    yield from _disagreeing(result)
    yield from _unstable(result)
    yield from _small(result)


def _edges(result: Result) -> Iterator[Finding]:
    """Yield the values that were chosen at the edge of what was tried: a better one may lie beyond."""
    at: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for group in result.comparison.groups:
        for key in tuned(group) if group.trials and group.runs else ():
            tried = {run.value(key) for run in group.trials if _is_number(run.value(key))}
            chosen = {str(run.value(key)): run.value(key) for run in group.final}
            if len(tried) < _FEWEST_VALUES or len(chosen) != 1:
                continue
            (value,) = chosen.values()
            if value in (min(tried), max(tried)):
                at.setdefault((key, "lowest" if value == min(tried) else "highest"), []).append((value, group.name))
    for (key, end), chosen_at in at.items():
        beyond = "lower" if end == "lowest" else "higher"
        several = len({value for value, _ in chosen_at}) > 1
        names = [f"{name} ({value:g})" if several else name for value, name in chosen_at]
        of = f"{len(names)} of {len(result.comparison.groups)} groups: " if len(names) > _SHOWN else ""
        shared = "" if several else f", {chosen_at[0][0]:g}"
        unequal = ", and by another amount for each of them" if len(names) > 1 else ""
        yield Finding(
            "edge_of_search",
            "warning",
            f"The best {key} is the {end} that was tried{shared}, for {of}{listed(names, _SHOWN)}; a {beyond} one "
            f"may be better{unequal}. Search beyond it.",
        )


def _improving(result: Result) -> Iterator[Finding]:
    """Yield that most runs were best at their last validation, and by how much they still rose."""
    metric, sign = result.comparison.metric, -1 if result.comparison.direction == "min" else 1
    rises, number = [], 0
    for group in result.comparison.groups:
        for run in group.final:
            curve = sorted(dict(validations(run, metric)).items())
            if len(curve) < 2:
                continue
            number += 1
            *before, last = (sign * value for _, value in curve)
            # budget.select=last keeps the last weights though others were better
            if run.record.data["selection"]["step"] == curve[-1][0] and last > max(before):
                rises.append(last - before[-1])
    if len(rises) * 2 > number and (rise := statistics.fmean(rises)) > _margin(result):
        yield Finding(
            "still_improving",
            "warning",
            f"{len(rises)} of {number} tested runs were best at their last validation, and validation {called(metric)} "
            f"still improved by {points(rise, metric)} on average since the one before: longer training may raise the "
            "scores, and change their order. Train for longer.",
        )


def _disagreeing(result: Result) -> Iterator[Finding]:
    """Yield the claims that a test without the assumption of normality could confirm, and does not."""
    risk = 1 - result.comparison.options.level
    against: dict[str, list[tuple[str, float]]] = {}
    for pair in _claimed(result):
        for test in pair.tests:
            if ("permutation" in test.name or "sign flip" in test.name) and test.floor <= risk < test.p:
                against.setdefault(test.name, []).append((pair.first, test.p))
    for name, pairs in against.items():
        each = listed([f"{group} (p = {p_value(p)})" for group, p in pairs], _SHOWN)
        yield Finding(
            "tests_disagree",
            "warning",
            f"The verdict, which assumes scores that are about normally distributed, is not confirmed by the test "
            f"“{name}”, which does not, for: {each}. More seeds would settle it.",
        )


def _unstable(result: Result) -> Iterator[Finding]:
    """Yield the groups with a seed that is far worse than their median: their mean describes no run."""
    metric, sign = result.comparison.metric, -1 if result.comparison.direction == "min" else 1
    far = _COLLAPSED * _margin(result)
    collapsed = []
    for row in result.ranked:
        scores = [float(value) for value in row.measured.scores]
        worst = min(scores, key=lambda value: sign * value)
        if len(scores) > 2 and sign * (statistics.median(scores) - worst) > far:
            collapsed.append(f"{row.name} ({', '.join(score(value, metric) for value in scores)})")
    if collapsed:
        yield Finding(
            "unstable",
            "warning",
            f"One seed or more lies over {points(far, metric)} below the group's median"
            f"{' (above, as less is better)' if sign < 0 else ''}: {listed(collapsed, _SHOWN)}. Training may have "
            "failed there: look at these runs, for a mean and an SD describe them badly.",
        )


def _small(result: Result) -> Iterator[Finding]:
    """Yield the claims of a difference smaller than the design shows reliably: such ones are overestimated."""
    metric = result.comparison.metric
    small = [
        f"{pair.first} ({points(abs(pair.difference.value), metric)}, reliably shown from "
        f"{points(pair.detectable, metric)} on)"
        for pair in _claimed(result)
        if pair.detectable is not None and abs(pair.difference.value) < pair.detectable
    ]
    if small:
        yield Finding(
            "small_for_the_design",
            "note",
            f"Smaller than what so few seeds show in four of five studies: the difference of {listed(small, _SHOWN)}. "
            "A difference that is shown nevertheless is, on average, overestimated.",
        )


def _margin(result: Result) -> float:
    """Return the margin of the comparison; where it has none, the same part of the median score."""
    if (margin := result.comparison.margin) is not None:
        return margin
    scores = [float(value) for row in result.rows for value in row.measured.scores]
    return MARGIN * abs(statistics.median(scores)) if scores else 0.0


def _claimed(result: Result) -> Sequence[Pair]:
    return [pair for pair in result.pairs if pair.verdict.says in ("better", "worse")]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
