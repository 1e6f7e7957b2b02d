"""Do groups of examples fare differently with a model, and what could have been seen?

The gap of a metric is its largest value among the groups minus its smallest. It is never negative, so that equal groups
show one as well: with two groups of n examples and an accuracy of p it is 1.128 sqrt(p(1-p)/n) on average, with ten
3.078 of it. A gap means something beside that, beside what else could have been, and beside the smallest gap that
groups of these sizes would have shown.

**Test.** Where each cluster of examples, such as a document or an author, has one group, the groups are dealt out anew
over the clusters. The statistic is the largest difference of a pair in units of its standard error, computed anew for
each division: the test is exact if the group says nothing at all, and holds for large groups if only the metric is
equal (Janssen 1997; Chung & Romano 2013). Where groups share clusters, the signs of the clusters' influences are
flipped (Wu 1986; Cameron, Gelbach & Miller 2008).

**Pairs and interval.** The largest statistic of each division adjusts the p values of all pairs at once (Westfall &
Young 1993), and its quantile makes intervals that cover all differences at once. The interval of the gap lies between
the largest of their lower limits and the largest of the upper ones: if all pairs are covered, so is the gap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.report.statistics.bootstrap import jackknife_interval
from peftlab.report.statistics.measures import Measure

DRAWS = 1999
"""Divisions that are drawn where there are too many to try all."""
_CELLS = 2**20
"""Groups that are held at once."""


@dataclass(frozen=True)
class GroupValue:
    """A metric of one group."""

    name: str
    size: int
    """The examples that count for the metric."""
    value: float
    low: float | None
    """The interval of this group for itself; None where it has one cluster, or none of its clusters differ."""
    high: float | None


@dataclass(frozen=True)
class Pair:
    """The difference of two groups."""

    first: str
    second: str
    difference: float
    """The first group's value minus the second's."""
    low: float | None
    """The interval, which covers the differences of all pairs at once."""
    high: float | None
    p: float | None
    """Adjusted for the number of pairs."""
    detectable: float | None
    """The smallest true difference of these two groups that the test finds with probability .8."""


@dataclass(frozen=True)
class Gap:
    """A metric by group, and how far the groups are apart."""

    metric: str
    value: float
    """The largest value minus the smallest."""
    deviation: float
    """The largest distance of a group from all compared groups together."""
    expected: float | None
    """The mean gap of groups of these sizes that are equal."""
    debiased: float | None
    """The square root of the squared gap minus what equal groups have on average, at least 0."""
    low: float | None
    """The interval of the gap."""
    high: float | None
    p: float | None
    """Of the hypothesis that all groups are equal."""
    floor: float | None
    """The smallest p value that the test could have given."""
    test: str
    """How it was tested, or why not."""
    detectable: float | None
    """The smallest gap that the test finds with probability .8, whichever two groups it lies between."""
    groups: tuple[GroupValue, ...]
    pairs: tuple[Pair, ...]
    left_out: dict[str, int]
    """Groups with too few examples for the metric, or in which it is no number, and how many examples they have."""


def gap(
    measure: Measure,
    groups: np.ndarray,
    names: Sequence[str],
    clusters: np.ndarray,
    *,
    fewest: int = 20,
    level: float = 0.95,
    family: int = 1,
    draws: int = DRAWS,
    seed: int = 0,
) -> Gap | None:
    """Return the gap of a metric between groups; None if fewer than two of them are large enough and have a value.

    A correlation, for one, has none in a group whose answers are all the same.

    Args:
        measure: the metric, of all rows.
        groups: the group of each row as a number, -1 for none, shape (rows,).
        names: of the groups.
        clusters: the cluster of each row, 0, 1, ..., shape (rows,).
        fewest: a group with fewer rows that count is left out.
        level: probability of the intervals; a claim is made at a risk of 1 - level.
        family: how many gaps are tested together: what can be detected is stated at the level that Holm's method has
            for the first of them.
        draws: how many divisions are drawn.
        seed: of the draws.
    """
    sizes = measure.sizes(groups, len(names))
    kept = np.flatnonzero(sizes >= max(fewest, 1))
    if len(kept) > 1:
        kept = kept[np.isfinite(measure.at(_renumbered(groups, kept)[None], len(kept))[0][0])]
    left_out = {name: int(sizes[place]) for place, name in enumerate(names) if place not in kept}
    if len(kept) < 2:
        return None
    groups, number = _renumbered(groups, kept), len(kept)
    influence = measure.influence(groups, number, clusters)
    own, sizes = [names[place] for place in kept.tolist()], sizes[kept]
    tried = _tried(measure, groups, number, clusters, influence, draws, seed)
    values = tried.values
    whole = measure.overall(groups)
    pairs = tuple(_pairs(tried, own, level, family))
    limits = [(pair.low, pair.high) for pair in pairs if pair.low is not None and pair.high is not None]
    beyond = float(values.max() - values.min())
    low = max((max(0.0, low, -high) for low, high in limits), default=None)
    high = max((max(-low, high) for low, high in limits), default=None)
    squares = None if tried.gaps is None else float((tried.gaps**2).mean())
    detectable = [pair.detectable for pair in pairs if pair.detectable is not None]
    return Gap(
        metric=measure.name,
        value=beyond,
        deviation=float(np.abs(values - whole).max()),
        expected=None if tried.gaps is None else float(tried.gaps.mean()),
        debiased=None if squares is None else math.sqrt(max(beyond**2 - squares, 0.0)),
        low=low,
        high=min(high, 1.0) if high is not None and measure.is_share else high,
        p=min((pair.p for pair in pairs if pair.p is not None), default=None),
        floor=None if tried.largest is None else 1 / (len(tried.largest) + (not tried.exact)),
        test=tried.name,
        detectable=max(detectable, default=None),
        groups=tuple(
            _values(
                own,
                sizes,
                values,
                influence,
                np.where(measure.counting(), groups, -1),
                clusters,
                measure.is_share,
                level,
            )
        ),
        pairs=pairs,
        left_out=left_out,
    )


def large_enough(measure: Measure, groups: np.ndarray, number: int, fewest: int) -> bool:
    """Return whether two groups or more have `fewest` rows that count, so that there is a gap."""
    return int((measure.sizes(groups, number) >= max(fewest, 1)).sum()) > 1


@dataclass(frozen=True)
class _Tried:
    """The groups as they are, and under the divisions that were tried."""

    name: str
    exact: bool
    values: np.ndarray
    """Shape (groups,)."""
    apart: np.ndarray
    """The difference of each pair, less what sizes alone explain, shape (pairs,)."""
    ses: np.ndarray
    """Shape (pairs,); 0 where nothing is known."""
    largest: np.ndarray | None
    """The largest statistic of each division."""
    gaps: np.ndarray | None
    """The gap under each division."""


def _tried(
    measure: Measure,
    groups: np.ndarray,
    number: int,
    clusters: np.ndarray,
    influence: np.ndarray,
    draws: int,
    seed: int,
) -> _Tried:
    least, most = (np.full(clusters.max() + 1, fill) for fill in (number, -1))
    np.minimum.at(least, clusters, groups)
    np.maximum.at(most, clusters, groups)
    if (least == most).all():
        return _dealt_out(measure.clustered(clusters), least, number, draws, seed)
    return _flipped(measure, groups, number, influence, draws, seed)


def _dealt_out(measure: Measure, groups: np.ndarray, number: int, draws: int, seed: int) -> _Tried:
    """Deal the groups out anew over the clusters that count; those of no group keep it."""
    first, second = _places(number)
    free = np.flatnonzero((groups >= 0) & measure.counting())
    divisions = _arrangements(groups[free], number, draws)
    exact = divisions is not None
    random = np.random.default_rng(seed)
    at_once = max(1, _CELLS // max(1, len(groups)))
    parts = []
    total = draws if divisions is None else len(divisions)
    for start in range(0, total, at_once):
        several = np.tile(groups, (min(at_once, total - start), 1))
        several[:, free] = (
            random.permuted(several[:, free], axis=1) if divisions is None else divisions[start : start + at_once]
        )
        parts.append(measure.at(several, number))
    values, ses = measure.at(groups[None], number)
    dealt = np.concatenate([part for part, _ in parts])
    centres = np.nanmean(dealt, axis=0)
    apart, others = (each[:, first] - each[:, second] for each in (values - centres, dealt - centres))
    if ses is None:
        own = np.nanstd(others, axis=0)[None]
        of_others = own
    else:
        dealt_ses = np.concatenate([part for _, part in parts if part is not None])
        own, of_others = (np.hypot(each[:, first], each[:, second]) for each in (ses, dealt_ses))
    largest = _statistics(others, of_others).max(axis=1)
    gaps = np.nan_to_num(dealt.max(axis=1) - dealt.min(axis=1))
    name = f"permutation of groups over {len(free):,} units, {'all' if exact else f'{draws:,} drawn'}"
    return _Tried(name, exact, values[0], apart[0], own[0], largest, gaps)


def _flipped(measure: Measure, groups: np.ndarray, number: int, influence: np.ndarray, draws: int, seed: int) -> _Tried:
    """Flip the signs of the influences of clusters, which may have examples of several groups."""
    first, second = _places(number)
    values = measure.at(groups[None], number)[0][0]
    apart, parts = values[first] - values[second], influence[:, first] - influence[:, second]
    used = np.flatnonzero(np.abs(influence).sum(axis=1) > 0)
    clusters = len(used)
    ses = np.sqrt((parts**2).sum(axis=0) * clusters / max(clusters - 1, 1))
    if not measure.is_smooth or clusters < 2:
        why = "groups share clusters, in which this metric is not tested" if clusters > 1 else "only one unit differs"
        return _Tried(f"none: {why}", False, values, apart, np.zeros_like(ses), None, None)
    exact = 2**clusters <= draws
    if exact:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=clusters)))
    else:
        signs = np.random.default_rng(seed).choice((1.0, -1.0), (draws, clusters))
    flipped = signs @ influence[used]
    largest = _statistics(flipped[:, first] - flipped[:, second], ses[None]).max(axis=1)
    name = f"sign flips of {clusters:,} clusters, {'all' if exact else f'{draws:,} drawn'}"
    return _Tried(name, exact, values, apart, ses, largest, flipped.max(axis=1) - flipped.min(axis=1))


def _pairs(tried: _Tried, names: Sequence[str], level: float, family: int) -> Iterator[Pair]:
    from scipy.special import ndtri

    statistics = _statistics(tried.apart, tried.ses)
    largest = None if tried.largest is None else np.sort(tried.largest)
    for one, (first, second) in enumerate(zip(*_places(len(names)), strict=True)):
        difference, se = float(tried.values[first] - tried.values[second]), float(tried.ses[one])
        low = high = p = detectable = None
        if largest is not None:
            extra = int(not tried.exact)
            reached = len(largest) - int(np.searchsorted(largest, statistics[one] * (1 - 1e-9), "left"))
            p = (reached + extra) / (len(largest) + extra)
            if se > 0:
                half = se * _quantile(largest, level)
                low, high = float(tried.apart[one]) - half, float(tried.apart[one]) + half
                detectable = se * (_quantile(largest, 1 - (1 - level) / family) + float(ndtri(0.8)))
        yield Pair(names[first], names[second], difference, low, high, p, detectable)


def _values(
    names: Sequence[str],
    sizes: np.ndarray,
    values: np.ndarray,
    influence: np.ndarray,
    groups: np.ndarray,
    clusters: np.ndarray,
    is_share: bool,
    level: float,
) -> Iterator[GroupValue]:
    for one, (name, size, value) in enumerate(zip(names, sizes, values, strict=True)):
        own = np.union1d(clusters[groups == one], np.flatnonzero(influence[:, one]))
        low = high = None
        pseudo = value + len(own) * influence[own, one]  # their mean is the value
        if not np.ptp(pseudo):  # then their number decides: that of the scarcer kind in a ranking
            pseudo = pseudo[:size]
        if len(pseudo) > 1 and (is_share or np.ptp(pseudo) > 0):
            over = jackknife_interval(pseudo, level, bounded=is_share)
            low, high = over.low, over.high
        yield GroupValue(name, int(size), float(value), low, high)


def _statistics(apart: np.ndarray, ses: np.ndarray) -> np.ndarray:
    """Return distances in units of their standard errors; infinite where a division leaves a group nothing to count."""
    with np.errstate(invalid="ignore", divide="ignore"):
        statistics = np.where(np.abs(apart) > 1e-12, np.abs(apart) / ses, 0.0)
    return np.where(np.isnan(apart), np.inf, np.nan_to_num(statistics, nan=0.0, posinf=np.inf))


def _quantile(largest: np.ndarray, level: float) -> float:
    """Return the smallest statistic that at most a share of 1 - `level` of equal groups exceeds, of sorted ones.

    It is the normal one at least: with a handful of errors in all, the groups can hardly be dealt out in other ways,
    which says nothing about other test sets.
    """
    from scipy.special import ndtri

    place = math.ceil(level * (len(largest) + 1)) - 1
    return max(float(largest[min(place, len(largest) - 1)]), float(ndtri((1 + level) / 2)))


def _renumbered(groups: np.ndarray, kept: np.ndarray) -> np.ndarray:
    places = np.full(int(groups.max(initial=-1)) + 2, -1)
    places[kept] = np.arange(len(kept))
    return places[groups]  # -1 is the last place, which stays -1


def _places(number: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(number, 1)


def _arrangements(groups: np.ndarray, number: int, most: int) -> np.ndarray | None:
    """Return all ways to deal `groups` out, shape (ways, units); None if they are more than `most`."""
    sizes = np.bincount(groups, minlength=number).tolist()
    ways = math.prod(math.comb(sum(sizes[one:]), sizes[one]) for one in range(number)) if len(groups) < 60 else most + 1
    if ways > most:
        return None
    return np.array(list(_dealt(tuple(range(len(groups))), sizes, len(groups))))


def _dealt(places: tuple[int, ...], sizes: Sequence[int], units: int) -> Iterator[np.ndarray]:
    """Yield every way to give the first group's number to some of `places`, and so on."""
    if len(sizes) == 1:
        yield np.full(units, len(sizes) - 1)
        return
    last = len(sizes) - 1
    for chosen in itertools.combinations(places, sizes[last]):
        rest = tuple(place for place in places if place not in chosen)
        for way in _dealt(rest, sizes[:last], units):
            way[list(chosen)] = last
            yield way
