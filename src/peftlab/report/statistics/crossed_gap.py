"""Gaps between groups of rows that all meet the same columns, such as names of people in the same sentences.

Both the names and the sentences are samples: with others, each would come out otherwise. They are crossed random
effects, and an interval that only covers one of them is too narrow (Clark 1973; Baayen, Davidson & Bates 2008, "Mixed-
effects modeling with crossed random effects for subjects and items"). The mean of a row varies with its name, and the
difference between two groups with the sentence; `peftlab.report.statistics.crossed` has the closed form, in which rows
are what seeds are there, and columns what clusters are.

As all groups meet the same sentences, what makes a sentence hard cancels out of their differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from peftlab.report.statistics.crossed import Estimate, components, difference, expected
from peftlab.report.statistics.measured import Measured
from peftlab.scores.paired import holm


@dataclass(frozen=True)
class GroupMean:
    """The mean of one group of rows."""

    group: str
    rows: int
    mean: Estimate
    """Over other rows of the group, and other columns."""
    from_rest: Estimate
    """Its difference from the mean of all other rows."""
    p: float
    """Of that difference, adjusted for the number of groups (Holm)."""


@dataclass(frozen=True)
class CrossedGap:
    """The difference between the groups with the largest and the smallest mean, and what it is worth."""

    value: float
    largest: str
    smallest: str
    low: float | None
    high: float | None
    """Limits of this difference for other rows and columns, simultaneous over all pairs of groups (Bonferroni)."""
    p: float
    """Of the hypothesis that these two groups are equal, adjusted alike; where nothing varies in them, `p_rows`."""
    expected: float
    """The mean gap of groups that are dealt out at random: that of equal groups, which is never 0."""
    debiased: float
    """The square root of the squared gap less what such groups have on average, at least 0."""
    p_rows: float
    """The share of such random groups whose gap is as large: that of other names in these very sentences."""
    se: float | None
    """Standard error of the difference."""
    pairing: float | None
    """How much narrower the interval over columns is, these rows given, than if each of the two groups had met columns
    of its own: the ratio of the standard errors. None: the columns are equal."""
    variances: dict[str, float]
    """Of ``rows`` in a group, of ``columns``, and of the ``rest``."""
    groups: list[GroupMean]
    """In descending order of the means."""


def crossed_gap(
    values: np.ndarray,
    groups: Sequence[str],
    limits: tuple[float, float] = (-math.inf, math.inf),
    level: float = 0.95,
    draws: int = 1999,
    seed: int = 0,
) -> CrossedGap:
    """Return the gap between groups of rows.

    Args:
        values: shape (rows, columns), without holes.
        groups: the group of each row.
        limits: the least and the largest value there can be; no interval goes beyond.
        level: probability of the intervals.
        draws: random groupings for `CrossedGap.p_rows`.
        seed: of the draws.

    Raises:
        ValueError: there are fewer than two groups, or a group with fewer than two rows, or fewer than two columns.
    """
    names = sorted(set(groups))
    codes = np.array([names.index(group) for group in groups])
    sizes = np.bincount(codes, minlength=len(names))
    if len(names) < 2 or sizes.min() < 2 or values.shape[1] < 2 or len(values) != len(groups):
        raise ValueError(f"{dict(zip(names, sizes.tolist(), strict=True))}, {values.shape}: need two of everything")
    own = {name: _measured(name, values[codes == code]) for code, name in enumerate(names)}
    rest = {name: _measured(name, values[codes != code]) for code, name in enumerate(names)}
    most = limits[1] - limits[0]
    apart = {name: _within(difference(own[name], rest[name], paired=False, level=level), -most, most) for name in names}
    adjusted = dict(zip(names, holm([_p(apart[name]) for name in names]), strict=True))
    means = {name: _within(expected(own[name], level), *limits) for name in names}
    ordered = sorted(names, key=lambda name: -means[name].value)
    pairs = len(list(combinations(names, 2)))
    simultaneous = 1 - (1 - level) / pairs
    widest = _within(difference(own[ordered[0]], own[ordered[-1]], paired=False, level=simultaneous), -most, most)
    value = widest.value
    dealt = _dealt(values.mean(axis=1), codes, sizes, draws, seed)
    p_rows = float((1 + (dealt >= value - 1e-12).sum()) / (1 + draws))
    first, last = (values[codes == names.index(name)].mean(axis=0) for name in (ordered[0], ordered[-1]))
    unpaired = math.hypot(float(first.std()), float(last.std()))
    parts = [components(one.pseudo_values) for one in own.values() if one.pseudo_values is not None]
    return CrossedGap(
        value=value,
        largest=ordered[0],
        smallest=ordered[-1],
        low=widest.low,
        high=widest.high,
        p=min(1.0, pairs * _p(widest)) if widest.se else p_rows,
        expected=float(dealt.mean()),
        debiased=math.sqrt(max(0.0, value**2 - float((dealt**2).mean()))),
        p_rows=p_rows,
        se=widest.se,
        pairing=float((first - last).std()) / unpaired if unpaired else None,
        variances={
            "rows": float(np.mean([one.seed for one in parts])),
            "columns": float(np.mean([one.cluster for one in parts])),
            "rest": float(np.mean([one.rest for one in parts])),
        },
        groups=[
            GroupMean(name, int(sizes[names.index(name)]), means[name], apart[name], adjusted[name]) for name in ordered
        ],
    )


def _measured(name: str, values: np.ndarray) -> Measured:
    return Measured(name, tuple(range(len(values))), values.mean(axis=1), values)


def _within(estimate: Estimate, least: float, largest: float) -> Estimate:
    """Return an estimate whose interval has no value that there cannot be."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, least), high=min(estimate.high, largest))


def _p(estimate: Estimate) -> float:
    p = estimate.p()
    return 1.0 if p is None else p


def _dealt(means: np.ndarray, codes: np.ndarray, sizes: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return the gaps, shape (draws,), of groups of these sizes to which the rows are dealt out at random."""
    random = np.random.default_rng(seed)
    shuffled = random.permuted(np.broadcast_to(means, (draws, len(means))), axis=1)
    of_groups = shuffled @ (codes[:, None] == np.arange(len(sizes))) / sizes
    return np.asarray(of_groups.max(axis=1) - of_groups.min(axis=1))
