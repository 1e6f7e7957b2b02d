"""Is one method fairer than another? The gaps of several methods, over seeds and test sets, on the same examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from peftlab.errors import UserError
from peftlab.report.analysis.groups import Comparison, comparisons_of
from peftlab.report.analysis.options import Options
from peftlab.report.statistics.comparison import FEWEST_SEEDS
from peftlab.report.statistics.crossed import Estimate, difference, expected
from peftlab.report.statistics.measured import Measured
from peftlab.report.statistics.measures import Measure
from peftlab.report.study import Run, Study
from peftlab.scores.paired import holm
from peftlab.use.fairness.measure import Divided, Settings, answers_of, divided

Says = Literal["fairer", "less fair", "not told apart", "no claim", "baseline"]


@dataclass(frozen=True)
class MethodGap:
    """The gap of one metric with one method."""

    attribute: str
    metric: str
    pair: tuple[str, str]
    """The two groups that are farthest apart on average over all runs: the first one has the larger value there."""
    method: str
    seeds: int
    gap: Estimate
    """The first group's value minus the second's, over seeds and test sets; below 0: with this method it is the other
    way round."""
    against: Estimate | None
    """This gap minus that of the baseline; None for the baseline itself."""
    p: float | None
    """Of gaps of equal size, whichever way round, adjusted for all methods and metrics that may claim something."""
    says: Says


@dataclass(frozen=True)
class Methods:
    """The gaps of several methods."""

    baseline: str
    rows: tuple[MethodGap, ...]
    notes: tuple[str, ...]
    """What was left out, and why."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"kind": "methods", **asdict(self)}


def methods(runs: Sequence[Run], settings: Settings, baseline: str | None = None, allow: Sequence[str] = ()) -> Methods:
    """Compare the gaps of the methods of some runs.

    A largest gap is never negative, and larger the noisier a method is. What is compared is therefore one difference:
    that of the two groups which are farthest apart on average over all runs, seen the same way round with every method.

    Args:
        runs: completed runs.
        settings: the groups and what is measured of them.
        baseline: the method that the others are compared with, by its name; None: as in a report.
        allow: your own packages whose classes configurations may name.

    Raises:
        UserError: no method has that name, or no runs can be compared.
    """
    comparisons, unplaced = comparisons_of(Study(tuple(runs)), Options(baseline=baseline))
    comparison = comparisons[0]
    notes = [f"{run.id}: of another task, data set or score" for other in comparisons[1:] for run in other.everything]
    notes += [f"{run.id}: it fits no comparison" for run in unplaced]
    parts, faults = _parts(comparison, settings, allow)
    if not parts:
        raise UserError(f"--groups: no two runs can be compared: {'; '.join([*notes, *faults])}")
    against = (
        comparison.baseline.name if comparison.baseline and comparison.baseline.name in parts else next(iter(parts))
    )
    rows = [row for of_metric in _metrics(parts, settings) for row in _compared(of_metric, against)]
    return Methods(against, tuple(_judged(rows, 1 - settings.level)), (*notes, *faults, *_lacking(parts)))


Parts = dict[str, dict[int, dict[tuple[str, str], tuple[Divided, Measure]]]]
"""By method and seed, what is measured of a run, by the names of attribute and metric."""


def _parts(comparison: Comparison, settings: Settings, allow: Sequence[str]) -> tuple[Parts, list[str]]:
    """Return what is measured of each run, and why not of others; all are of the examples of the first one."""
    parts: Parts = {}
    faults: list[str] = []
    first: list[Any] | None = None
    for group in comparison.groups:
        for seed, (run, *folds) in group.by_seed.items():
            if folds:
                faults.append(f"{run.id}: one of several folds, which have different examples")
                continue
            try:
                answers = answers_of(run, settings.split)
                examples = [[answer["id"], answer["gold"]] for answer in answers]
                if first is not None and examples != first:
                    raise UserError("its examples, or their gold, are others than those of the first run")
                made = list(divided(run, answers, settings, allow))
            except UserError as error:
                faults.append(f"{run.id}: {error}")
                continue
            first = examples
            parts.setdefault(group.name, {})[seed] = {
                (part.attribute.name, measure.name): (part, measure) for part in made for measure in part.measures
            }
    return parts, faults


@dataclass(frozen=True)
class _OfMetric:
    """One metric of one attribute in all runs."""

    attribute: str
    metric: str
    pair: tuple[str, str]
    measured: Mapping[str, Measured]
    """By method the difference of the pair."""


def _metrics(parts: Parts, settings: Settings) -> Iterator[_OfMetric]:
    """Yield what all runs have: which metrics that is depends on the answers of each."""
    some, *others = _runs(parts)
    for key, (part, measure) in some.items():
        if not all(key in other for other in others):
            continue
        groups, names, _ = part.attribute.divided(settings.min_group)
        of_runs = {method: {seed: own[key][1] for seed, own in by_seed.items()} for method, by_seed in parts.items()}
        every = [one for by_seed in of_runs.values() for one in by_seed.values()]
        sizes = np.min([one.sizes(groups, len(names)) for one in every], axis=0)
        large = np.flatnonzero(sizes >= settings.min_group)
        if len(large) < 2:
            continue
        means = np.mean([one.at(groups[None], len(names))[0][0] for one in every], axis=0)
        large = large[np.isfinite(means[large])]  # a correlation has no value where all answers of a group are the same
        if len(large) < 2:
            continue
        high, low = large[means[large].argmax()], large[means[large].argmin()]
        values = {
            method: _measured(method, by_seed, groups, len(names), (int(high), int(low)), part.clusters)
            for method, by_seed in of_runs.items()
        }
        yield _OfMetric(part.attribute.name, measure.name, (names[high], names[low]), values)


def _lacking(parts: Parts) -> Iterator[str]:
    """Yield which metrics only some runs have, and a run that lacks each."""
    for attribute, metric in dict.fromkeys(key for own in _runs(parts) for key in own):
        lacking = [
            f"{method}, seed {seed}"
            for method, by_seed in parts.items()
            for seed, own in by_seed.items()
            if (attribute, metric) not in own
        ]
        if lacking:
            yield (
                f"{attribute}, {metric}: {len(lacking)} of {len(_runs(parts))} runs lack it, {lacking[0]} for one: not "
                "all of their answers have the probability that it takes"
            )


def _runs(parts: Parts) -> list[dict[tuple[str, str], tuple[Divided, Measure]]]:
    return [own for by_seed in parts.values() for own in by_seed.values()]


def _measured(
    name: str,
    by_seed: Mapping[int, Measure],
    groups: np.ndarray,
    number: int,
    pair: tuple[int, int],
    clusters: np.ndarray,
) -> Measured:
    """Return the difference of two groups by seed, and what each cluster contributes to it."""
    high, low = pair
    own = np.unique(clusters[(groups == high) | (groups == low)])
    rows = []
    for measure in by_seed.values():
        values = measure.at(groups[None], number)[0][0]
        influence = measure.influence(groups, number, clusters)[own]
        rows.append(values[high] - values[low] + len(own) * (influence[:, high] - influence[:, low]))
    scores = np.array([row.mean() for row in rows])
    return Measured(name, tuple(by_seed), scores, np.array(rows))


def _compared(one: _OfMetric, baseline: str) -> Iterator[MethodGap]:
    for method, measured in one.measured.items():
        against, p = (None, None) if method == baseline else _against(measured, one.measured[baseline])
        says: Says = "baseline" if against is None else "no claim"
        gap = expected(measured)
        yield MethodGap(one.attribute, one.metric, one.pair, method, len(measured.seeds), gap, against, p, says)


def _against(first: Measured, second: Measured) -> tuple[Estimate, float | None]:
    """Return the difference of two gaps, and the p value of gaps of equal size.

    Gaps a and b are of one size if a - b or a + b is 0. That neither is so is claimed at the larger of both p values
    (Berger 1982): a gap that turns round is not smaller for that.
    """
    values = second.pseudo_values
    turned = replace(second, scores=-second.scores, pseudo_values=None if values is None else -values)
    estimate = difference(first, second, paired=False)
    p_values = [one.p() for one in (estimate, difference(first, turned, paired=False))]
    known = [p for p in p_values if p is not None]
    return estimate, max(known) if len(known) == len(p_values) else None


def _judged(rows: Sequence[MethodGap], risk: float) -> Iterator[MethodGap]:
    adjusted = iter(holm([row.p for row in rows if row.p is not None and _may_claim(row)]))
    for row in rows:
        if row.p is None or row.against is None or not _may_claim(row):
            yield replace(row, p=None)
            continue
        p = next(adjusted)
        smaller = abs(row.gap.value) < abs(row.gap.value - row.against.value)
        says: Says = "not told apart" if p > risk else "fairer" if smaller else "less fair"
        yield replace(row, p=p, says=says)


def _may_claim(row: MethodGap) -> bool:
    return row.against is not None and row.against.seeds >= FEWEST_SEEDS
