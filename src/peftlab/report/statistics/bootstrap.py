"""How much a score would change with another test set: the bootstrap and the jackknife over clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from peftlab.report.statistics.means import bca_limits
from peftlab.report.statistics.measured import Score
from peftlab.scores.resampling import resampled_totals

Method = Literal["percentile", "BCa", "jackknife", "Wilson"]


@dataclass(frozen=True)
class ScoreInterval:
    """A score of one model, and an interval for its value in the population that the test set was drawn from."""

    value: float
    se: float | None
    """Standard error; None, as are the limits, for one cluster, and where resamples have no score, such as the
    correlation of equal answers."""
    low: float | None
    high: float | None
    level: float
    clusters: int
    method: Method


def bootstrap(
    counts: np.ndarray,
    score: Score,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    method: Literal["percentile", "BCa"] = "percentile",
) -> ScoreInterval:
    """Return a score with its bootstrap interval over clusters (Efron & Tibshirani 1993, chapters 8.2, 13 and 14).

    Args:
        counts: of each cluster, shape (clusters, width); see `peftlab.report.statistics.measured.cluster_counts`.
        score: the score.
        resamples: number of resamples.
        level: probability of the interval.
        seed: of the draws.
        method: which interval is made of the replicates.

    Raises:
        ValueError: there is no cluster.
    """
    return _bootstrap(counts, score, resamples, level, seed, method)


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    score: Score,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    method: Literal["percentile", "BCa"] = "percentile",
) -> ScoreInterval:
    """Return the score of `first` minus that of `second`, with its bootstrap interval over clusters.

    Both are scored on the same resamples, so that what makes a cluster hard cancels out (Berg-Kirkpatrick et al. 2012).

    Args:
        first: the counts of each cluster, shape (clusters, width).
        second: the counts of the same clusters under the other model.
        score: the score.
        resamples: number of resamples.
        level: probability of the interval.
        seed: of the draws.
        method: which interval is made of the replicates.

    Raises:
        ValueError: the two differ in shape, or there is no cluster.
    """
    if first.shape != second.shape:
        raise ValueError(f"the counts have the shapes {first.shape} and {second.shape}; expected the same clusters")
    width = first.shape[1]
    both = np.concatenate([first, second], axis=1)
    return _bootstrap(
        both, lambda totals: score(totals[:, :width]) - score(totals[:, width:]), resamples, level, seed, method
    )


def jackknife_interval(values: np.ndarray, level: float = 0.95, bounded: bool = False) -> ScoreInterval:
    """Return the mean of pseudo-values with an interval that needs no draws.

    The standard error is the jackknife's over clusters, the quantile Student's with one degree of freedom less than
    there are clusters. For a score that is a ratio of counts, this is the delta method up to terms of order 1/clusters.

    Args:
        values: the pseudo-values of a score, or of a difference, shape (clusters,).
        level: probability of the interval.
        bounded: whether the score lies between 0 and 1. The limits are then Wilson's (1927) at the effective number of
            examples, value (1 - value) / se² (Korn & Graubard 1998): as if half a squared quantile of right and as many
            wrong answers were added. Near 0 and 1 the symmetric interval covers too seldom (Anglin 2026,
            arXiv:2606.26422).

    Raises:
        ValueError: there is no cluster, or a bounded score is not between 0 and 1.
    """
    number = len(values)
    if not number:
        raise ValueError("there is no cluster, so there is no score")
    value = float(values.mean())
    method: Method = "Wilson" if bounded else "jackknife"
    if bounded and not -1e-9 <= value <= 1 + 1e-9:
        raise ValueError(f"the score is {value}; expected one between 0 and 1")
    if number == 1:
        return ScoreInterval(value, None, None, None, level, number, method)
    from scipy.special import stdtrit

    se = float(values.std(ddof=1)) / math.sqrt(number)
    quantile = float(stdtrit(number - 1, (1 + level) / 2))
    if not bounded:
        return ScoreInterval(value, se, value - quantile * se, value + quantile * se, level, number, method)
    value = min(max(value, 0.0), 1.0)
    # without any variation, such as a perfect score, each cluster is taken for one independent example
    effective = value * (1 - value) / se**2 if se and 0 < value < 1 else float(number)
    added = quantile**2
    centre = (effective * value + added / 2) / (effective + added)
    half = quantile * math.sqrt(effective * value * (1 - value) + added / 4) / (effective + added)
    return ScoreInterval(value, se, max(centre - half, 0.0), min(centre + half, 1.0), level, number, method)


def over_test_sets(
    values: np.ndarray, level: float, limits: tuple[float, float], counting: int | None = None
) -> ScoreInterval:
    """Return a score with the jackknife's interval, which says no more than it may.

    The interval has no value that the score cannot have. Where all clusters are equal, as with a perfect score, the
    interval of a share is Wilson's, and that of another score has no limits: equal clusters say little of others. Nor
    has that of a score which is no number, with all clusters or without one of them.

    Args:
        values: the pseudo-values of the score, shape (clusters,).
        level: probability of the interval.
        limits: the least and the largest value that the score can have; 0 and 1 for a share.
        counting: how many clusters have anything that is counted, such as sentences with an entity: equal ones are
            worth as many examples. None: all.

    Raises:
        ValueError: there is no cluster, or a share is not between 0 and 1.
    """
    over = jackknife_interval(values, level)
    if over.low is None or over.high is None:
        return over
    if math.isnan(over.value):
        return replace(over, se=None, low=None, high=None)
    if over.high - over.low < 1e-9:
        is_share, equal = limits == (0, 1), values[:counting]
        if not is_share or len(equal) < 2:
            return replace(over, low=None, high=None)
        return replace(jackknife_interval(equal, level, bounded=True), clusters=over.clusters)
    return replace(over, low=max(over.low, limits[0]), high=min(over.high, limits[1]))


def _bootstrap(
    counts: np.ndarray, score: Score, resamples: int, level: float, seed: int, method: Literal["percentile", "BCa"]
) -> ScoreInterval:
    clusters = len(counts)
    if not clusters:
        raise ValueError("there is no cluster, so there is no score")
    value = float(score(counts.sum(axis=0)[None])[0])
    if clusters == 1:
        return ScoreInterval(value, None, None, None, level, clusters, method)
    drawn = np.concatenate([score(totals) for totals in resampled_totals(counts, resamples, seed)])
    if not np.isfinite(drawn).all():
        return ScoreInterval(value, None, None, None, level, clusters, method)
    if method == "BCa":
        low, high = bca_limits(drawn, value, score(counts.sum(axis=0) - counts), level)
    else:
        low, high = (float(limit) for limit in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
    return ScoreInterval(value, float(drawn.std(ddof=1)), low, high, level, clusters, method)
