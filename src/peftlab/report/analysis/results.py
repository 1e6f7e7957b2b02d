"""What the tested runs of a comparison say, each group for itself and against the baseline."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from peftlab.errors import UserError
from peftlab.report.analysis.counts import Counted, counted, joined
from peftlab.report.analysis.groups import Comparison, Group, comparisons_of
from peftlab.report.analysis.options import Options
from peftlab.report.checks import findings_of
from peftlab.report.document import Finding
from peftlab.report.numbers import limits
from peftlab.report.statistics.bootstrap import ScoreInterval, over_test_sets
from peftlab.report.statistics.comparison import FEWEST_SEEDS, compare_all
from peftlab.report.statistics.comparison import Comparison as Pair
from peftlab.report.statistics.crossed import Components, Estimate, components, difference, expected
from peftlab.report.statistics.means import Mean, mean
from peftlab.report.statistics.measured import Measured, pseudo_values, score_of
from peftlab.report.study import Run, Study

Notes = tuple[tuple[str, tuple[str, ...]], ...]
"""Why the test split says nothing of some runs: the reason, and those runs."""

Interval = TypeVar("Interval", Mean, Estimate)


@dataclass(frozen=True)
class Row:
    """What the tested runs of a group say."""

    group: Group
    measured: Measured
    seeds: Mean
    """Their mean, with the interval over seeds."""
    whole: Estimate
    """The same over seeds and test sets."""
    test_set: ScoreInterval | None
    """The same over test sets for these very runs; None without predictions."""
    split: Components | None
    """Where the spread comes from; None without predictions."""
    counted: dict[int, Counted]
    """By seed; empty unless all runs have predictions of the same examples as the other groups'."""

    @property
    def name(self) -> str:
        """The name of the group."""
        return self.group.name

    @property
    def value(self) -> float:
        """The mean score."""
        return self.seeds.value


@dataclass(frozen=True)
class Result:
    """A comparison with its statistics."""

    comparison: Comparison
    rows: tuple[Row, ...]
    """Of the groups that were tested, in the order of the comparison."""
    pairs: tuple[Pair, ...]
    """Every other group against the baseline."""
    findings: tuple[Finding, ...]
    units: str | None
    """What was drawn anew in the test split: ``groups`` or ``examples``; None without predictions."""
    clusters: int | None
    examples: int | None
    notes: Notes

    @cached_property
    def ranked(self) -> tuple[Row, ...]:
        """The rows, the best mean first."""
        sign = -1 if self.comparison.direction == "max" else 1
        return tuple(sorted(self.rows, key=lambda row: (sign * row.value, row.name)))

    @cached_property
    def beside_the_best(self) -> frozenset[str]:
        """The groups that cannot be told apart from the one with the best mean, itself included.

        Each is compared with it at a level that holds for all of them together (Bonferroni), as in multiple
        comparisons with the best (Hsu 1981); where one of the two is the baseline, the verdict on that pair decides.
        Groups with fewer seeds than `FEWEST_SEEDS` are never told apart.
        """
        if not self.rows:
            return frozenset()
        best, *others = self.ranked
        level = 1 - (1 - self.comparison.options.level) / max(1, len(others))
        return frozenset([best.name, *(row.name for row in others if not self._is_apart(best, row, level))])

    def _is_apart(self, best: Row, row: Row, level: float) -> bool:
        if min(len(best.measured.seeds), len(row.measured.seeds)) < FEWEST_SEEDS:
            return False
        baseline = self.comparison.baseline
        if baseline is not None and baseline.name in (best.name, row.name):
            pair = self.pair(row.name if best.name == baseline.name else best.name)
            return pair is not None and pair.verdict.says in ("better", "worse")
        estimate = difference(best.measured, row.measured, paired=False, level=level)
        if not estimate.se or estimate.low is None or estimate.high is None:
            return False
        return estimate.low > 0 or estimate.high < 0

    def pair(self, name: str) -> Pair | None:
        """Return the comparison of a group with the baseline; None for the baseline itself."""
        return next((pair for pair in self.pairs if pair.first == name), None)

    def row(self, name: str) -> Row:
        """Return the row of a group."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True)
class Analysis:
    """All that a report says, before it is put into words."""

    study: Study
    options: Options
    results: tuple[Result, ...]
    unplaced: tuple[Run, ...]
    """Runs that ended before their record says what they are scored by."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs."""
        return self.study.runs


def analysed(study: Study, options: Options) -> Analysis:
    """Return the analysis of a study.

    Raises:
        UserError: an option names what is not there.
    """
    comparisons, unplaced = comparisons_of(study, options)
    return Analysis(study, options, tuple(_result(one) for one in comparisons), unplaced)


def _result(comparison: Comparison) -> Result:
    tested = [group for group in comparison.groups if _scored(comparison, group)]
    counts, measured, notes = _counts(comparison, tested)
    rows = tuple(_row(comparison, group, measured.get(group.name), counts.get(group.name, {})) for group in tested)
    baseline = comparison.baseline
    pairs: Sequence[Pair] = ()
    if baseline is not None and len(rows) > 1 and any(row.name == baseline.name for row in rows):
        options = comparison.options
        every = [row.measured for row in rows]
        pairs = compare_all(every, baseline.name, comparison.direction, comparison.margin, options.level)
    some = next((one for of_group in counts.values() for one in of_group.values()), None)
    return Result(
        comparison,
        rows,
        tuple(pairs),
        findings_of(comparison),
        some.units if some else None,
        len(some.names) if some else None,
        some.examples if some else None,
        notes,
    )


def _scored(comparison: Comparison, group: Group) -> dict[int, tuple[Run, ...]]:
    scored = {
        seed: tuple(run for run in runs if comparison.score(run) is not None) for seed, runs in group.by_seed.items()
    }
    return {seed: runs for seed, runs in scored.items() if runs}


def _row(comparison: Comparison, group: Group, measured: Measured | None, counts: dict[int, Counted]) -> Row:
    level = comparison.options.level
    scores = {
        seed: statistics.fmean(comparison.score(run) or 0.0 for run in runs)
        for seed, runs in _scored(comparison, group).items()
    }
    if measured is None:
        measured = Measured.of_scores(group.name, scores)
    pseudo = measured.pseudo_values
    possible = limits(comparison.metric)
    counting = min((one.counting for one in counts.values()), default=None)
    test_set = None if pseudo is None else over_test_sets(np.mean(pseudo, axis=0), level, possible, counting)
    split = components(pseudo) if pseudo is not None and len(scores) > 1 else None
    over_seeds, whole = mean(list(scores.values()), level), expected(measured, level)
    return Row(
        group,
        measured,
        _sober(over_seeds, over_seeds.sd, possible),
        _no_narrower(_sober(whole, whole.se, possible), _sober(over_seeds, over_seeds.sd, possible)),
        test_set,
        split,
        counts,
    )


def _sober(one: Interval, spread: float | None, possible: tuple[float, float]) -> Interval:
    """Return an interval of `possible` values, and without limits where nothing varies, as then nothing is known."""
    if one.low is None or one.high is None or not spread:
        return replace(one, low=None, high=None)
    return replace(one, low=max(one.low, possible[0]), high=min(one.high, possible[1]))


def _no_narrower(whole: Estimate, seeds: Mean) -> Estimate:
    """Return the interval over seeds and test sets, at least as wide as that over seeds.

    Its degrees of freedom are estimated, so that by chance it may come out narrower, which makes no sense.
    """
    if whole.low is None or whole.high is None or seeds.low is None or seeds.high is None:
        return whole
    return replace(whole, low=min(whole.low, seeds.low), high=max(whole.high, seeds.high))


def _counts(
    comparison: Comparison, groups: Sequence[Group]
) -> tuple[dict[str, dict[int, Counted]], dict[str, Measured], Notes]:
    """Return the counts of the groups whose runs all have predictions of the same examples, and why not of others.

    Beside the counts, both by group, stands what they say.
    """
    counts: dict[str, dict[int, Counted]] = {}
    measured: dict[str, Measured] = {}
    notes: dict[str, list[str]] = {}
    first: Counted | None = None
    for group in groups:
        of_group, values = dict[int, Counted](), dict[int, np.ndarray]()
        for seed, runs in _scored(comparison, group).items():
            one, reason = _of_runs(comparison, runs)
            if one is not None:
                first = first or one
                if comparison.metric not in one.scorer.directions:
                    reason = f"{comparison.metric} does not follow from counts per example"
                elif (one.names, one.scorer.name) != (first.names, first.scorer.name):
                    reason = "the predictions are of other examples, or scored otherwise, than those of the first run"
                elif one.counts.shape != first.counts.shape:
                    reason = "the labels are others than those of the first run"
                elif len(one.names) < 2:
                    reason = f"all predictions are of one {one.units.removesuffix('s')}, which says nothing of others"
                else:
                    values[seed] = pseudo_values(one.counts, score_of(one.scorer, comparison.metric))
                    if not np.isfinite(values[seed]).all():
                        reason = f"without some of the {one.units}, {comparison.metric} is no number"
            if reason is not None or one is None:
                notes.setdefault(reason or "", []).extend(run.id for run in runs)
            else:
                of_group[seed] = one
        if len(of_group) == len(_scored(comparison, group)):
            counts[group.name] = of_group
            measured[group.name] = Measured.of_pseudo_values(group.name, values)
    return counts, measured, tuple((reason, tuple(runs)) for reason, runs in notes.items())


def _of_runs(comparison: Comparison, runs: Sequence[Run]) -> tuple[Counted | None, str | None]:
    """Return the counts of a run, or of the folds of a cross-validation together, or why there are none."""
    parts = []
    for run in runs:
        one, reason = _of_run(comparison, run)
        if one is None:
            return None, reason
        parts.append(one)
    labels = [tuple(run.record.data["data"]["labels"]) for run in runs]  # the places of the counts
    if len({(own, part.scorer.name, part.units) for own, part in zip(labels, parts, strict=True)}) > 1:
        return None, "the folds have different labels, scorers or groups"
    return joined(parts), None


def _of_run(comparison: Comparison, run: Run) -> tuple[Counted | None, str | None]:
    try:
        one = counted(run, comparison.options.cluster)
    except (UserError, ValueError, LookupError, TypeError) as error:
        return None, f"the predictions cannot be scored ({error})"
    if one is None:
        return None, "the predictions are not kept" if run.scorer else "the scorer is not of this package"
    return one, None
