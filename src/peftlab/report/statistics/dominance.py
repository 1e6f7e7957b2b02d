"""Almost stochastic order: does one method's distribution of scores dominate the other's?

Its customary threshold of .5 is weak evidence: of two methods without a difference, one "dominates" the other in about
a fifth of all comparisons. The result therefore always comes with the share of false wins for as many seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_SIMULATIONS = 2000
_AT_ONCE = 2**21


@dataclass(frozen=True)
class Dominance:
    """How far the first method's scores are from stochastically dominating the second's."""

    epsilon: float
    """The violation ratio: 0 if every quantile of the first is better, 1 if every one of the second is."""
    epsilon_min: float
    """The upper limit of the ratio; the first is said to dominate where it is below the threshold."""
    threshold: float
    dominates: bool
    false_wins: float
    """How often two methods with equal normal distributions and as many seeds fall below the threshold as well."""
    first: int
    """Number of scores."""
    second: int
    level: float


def almost_stochastic_order(
    first: Sequence[float],
    second: Sequence[float],
    threshold: float = 0.5,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    lower_is_better: bool = False,
) -> Dominance:
    """Return whether `first` almost stochastically dominates `second` (del Barrio et al. 2018; Dror et al. 2019).

    Args:
        first: the scores of a method, one a seed.
        second: those of the other.
        threshold: of the upper limit of the violation ratio; .5 says "more often better than worse" at most, .2 is
            customary where a false claim is costly.
        level: of the upper limit.
        resamples: number of bootstrap resamples from which the ratio's standard error is taken.
        seed: of the draws.
        lower_is_better: whether a lower score wins.

    Raises:
        ValueError: a method has fewer than two scores.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if min(len(one), len(other)) < 2:
        raise ValueError("the order of distributions needs at least two scores of each method")
    if lower_is_better:
        one, other = -one, -other
    epsilon, upper = _upper_limits(one[None], other[None], level, resamples, np.random.default_rng(seed))
    return Dominance(
        epsilon=float(epsilon[0]),
        epsilon_min=float(upper[0]),
        threshold=threshold,
        dominates=bool(upper[0] < threshold),
        false_wins=false_win_rate(len(one), len(other), threshold, level),
        first=len(one),
        second=len(other),
        level=level,
    )


def violation_ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how much of the squared Wasserstein distance lies where the quantiles of `second` are the better ones.

    It is equation 4 of del Barrio et al. (2018), computed exactly: quantile functions of samples are steps. It is .5
    where the samples are equal.

    Args:
        first: shape (number, n).
        second: shape (number, m).

    Returns:
        Shape (number,).
    """
    n, m = first.shape[1], second.shape[1]
    edges = np.unique(np.concatenate([np.arange(n + 1) * m, np.arange(m + 1) * n]))  # in units of 1/(n m)
    widths, begins = np.diff(edges), edges[:-1]
    apart = np.sort(first, axis=1)[:, begins // m] - np.sort(second, axis=1)[:, begins // n]
    squares = apart**2 * widths
    total = squares.sum(axis=1)
    violated = np.where(apart < 0, squares, 0.0).sum(axis=1)
    return np.where(total > 0, violated / np.where(total > 0, total, 1.0), 0.5)


@lru_cache(maxsize=256)
def false_win_rate(first: int, second: int, threshold: float = 0.5, level: float = 0.95) -> float:
    """Return how often the first of two methods with equal normal distributions is said to dominate, by simulation.

    Args:
        first: number of scores of the first method.
        second: number of scores of the second.
        threshold: of the upper limit of the violation ratio.
        level: of the upper limit.
    """
    random = np.random.default_rng(0)
    samples = random.standard_normal((_SIMULATIONS, first + second))
    _, upper = _upper_limits(samples[:, :first], samples[:, first:], level, 200, random)
    return float((upper < threshold).mean())


def _upper_limits(
    first: np.ndarray, second: np.ndarray, level: float, resamples: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the violation ratio of each pair of samples and its upper limit, from a bootstrap standard error."""
    from scipy.special import ndtri

    ratios = violation_ratio(first, second)
    pairs, n, m = len(first), first.shape[1], second.shape[1]
    errors = np.empty(pairs)
    at_once = max(1, _AT_ONCE // (resamples * (n + m)))
    for start in range(0, pairs, at_once):
        some = slice(start, min(start + at_once, pairs))
        number = some.stop - some.start
        drawn = [
            np.take_along_axis(
                np.repeat(sample[some], resamples, axis=0),
                random.integers(0, sample.shape[1], (number * resamples, sample.shape[1])),
                axis=1,
            )
            for sample in (first, second)
        ]
        errors[some] = violation_ratio(*drawn).reshape(number, resamples).std(axis=1)
    return ratios, np.clip(ratios + float(ndtri(level)) * errors, 0.0, 1.0)
