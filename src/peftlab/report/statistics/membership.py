"""How well do scores tell members from others? The curve of an attack, its area, and its hits at few false alarms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MOST_POINTS = 200
"""Points of a curve that are kept; more would lie on each other."""


@dataclass(frozen=True)
class Bounded:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """The share of members that are recognised where few others are taken for members."""

    allowed: float
    """The largest share of false alarms that is allowed."""
    tpr: Bounded
    """The share of the members with a score above the threshold, with its interval by Clopper & Pearson."""
    false_alarms: int
    """The others with a score above the threshold."""
    others: int
    fpr_high: float
    """The upper limit of the share of false alarms, one-sided."""

    @property
    def measurable(self) -> bool:
        """Whether there are enough others for a single false alarm to be allowed."""
        return self.others * self.allowed >= 1


def area(scores: np.ndarray, members: np.ndarray, clusters: np.ndarray, level: float = 0.95) -> Bounded:
    """Return the area under the ROC curve: the probability that a member scores above another, ties counting half.

    The variance is that of Obuchowski (1997), "Nonparametric analysis of clustered ROC curve data", which is that of
    DeLong et al. (1988) where every example is a cluster of its own; the interval is symmetric in the logit. If all
    members score above all others, its lower end is that of a share of n of n clusters, by Clopper & Pearson.

    Args:
        scores: more speaks for a member, shape (examples,); or shape (targets, examples) for the mean area of several
            attacked models, whose scores of one example are dependent.
        members: whether an example is one, of the same shape.
        clusters: the cluster of each example: 0, 1, ...; shape (examples,).
        level: the probability of the interval.
    """
    from scipy.special import expit, logit, ndtri

    scores, members = np.atleast_2d(scores), np.atleast_2d(members)
    number = int(clusters.max()) + 1
    areas, of_members, of_others = [], np.zeros(number), np.zeros(number)
    for one, inside in zip(scores, members, strict=True):
        above, below = _shares_below(one[inside], one[~inside]), 1 - _shares_below(one[~inside], one[inside])
        areas.append(above.mean())
        of_members += np.bincount(clusters[inside], (above - areas[-1]) / len(above), number) / len(scores)
        of_others += np.bincount(clusters[~inside], (below - areas[-1]) / len(below), number) / len(scores)
    value = float(np.mean(areas))
    with_members, with_others = (np.unique(clusters[which.any(axis=0)]).size for which in (members, ~members))
    if value in (0, 1):
        limit = clopper_pearson(0, min(with_members, with_others), level).high
        return Bounded(value, 1 - limit if value else 0.0, 1.0 if value else limit)
    variance = float(
        _unbiased(with_members) * of_members @ of_members
        + _unbiased(with_others) * of_others @ of_others
        + 2 * _unbiased(np.unique(clusters).size) * of_members @ of_others
    )
    half = float(ndtri((1 + level) / 2)) * math.sqrt(max(variance, 0.0)) / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-half, half]))
    return Bounded(value, float(low), float(high))


def rate(scores: np.ndarray, members: np.ndarray, allowed: float, level: float = 0.95) -> Rate:
    """Return the share of members that are recognised where a share of others of at most `allowed` is taken for one.

    The threshold is the score of one of the others, above which no more of them lie than are allowed (Carlini et al.
    2022, https://arxiv.org/abs/2112.03570, section III). The intervals take the examples as independent.

    Args:
        scores: more speaks for a member, shape (examples,).
        members: whether an example is one, of the same shape.
        allowed: the share.
        level: the probability of the intervals.
    """
    others = np.sort(scores[~members])[::-1]
    threshold = others[min(int(allowed * len(others) + 1e-9), len(others) - 1)]
    hits, alarms = int((scores[members] > threshold).sum()), int((others > threshold).sum())
    return Rate(
        allowed=allowed,
        tpr=clopper_pearson(hits, int(members.sum()), level),
        false_alarms=alarms,
        others=len(others),
        fpr_high=clopper_pearson(alarms, len(others), 2 * level - 1).high,
    )


def curve(scores: np.ndarray, members: np.ndarray) -> list[tuple[float, float]]:
    """Return the ROC curve: shares of false alarms and of members recognised, rising, from (0, 0) to (1, 1).

    Of many points `MOST_POINTS` are kept, evenly spread over the logarithm of the share of false alarms, which is where
    an attack matters.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # ties are crossed in one step
    alarms, hits = (np.cumsum(which[order])[ends] / which.sum() for which in (~members, members))
    places = np.unique(np.geomspace(1, len(ends), min(len(ends), MOST_POINTS)).astype(int)) - 1
    return [(0.0, 0.0), *((float(alarms[place]), float(hits[place])) for place in places)]


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Bounded:
    """Return a share with its exact interval (Clopper & Pearson 1934); each end alone has half of the risk.

    Raises:
        ValueError: there is no trial.
    """
    if not trials:
        raise ValueError("a share of nothing has no interval")
    from scipy.special import betaincinv

    risk = (1 - level) / 2
    low = float(betaincinv(successes, trials - successes + 1, risk)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - risk)) if successes < trials else 1.0
    return Bounded(successes / trials, low, high)


def _shares_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each value the share of the others below it, ties counting half."""
    ordered = np.sort(others)
    twice = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    shares: np.ndarray = twice / (2 * len(others))
    return shares


def _unbiased(number: int) -> float:
    return number / max(number - 1, 1)
