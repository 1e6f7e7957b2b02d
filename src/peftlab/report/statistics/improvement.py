"""How probable is it that a run of one method beats a run of the other?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Improvement:
    """The probability that a run of the first method is better than one of the second; ties count half."""

    value: float
    low: float
    high: float
    level: float


def probability_of_improvement(
    first: Sequence[float], second: Sequence[float], level: float = 0.95, lower_is_better: bool = False
) -> Improvement:
    """Return the probability that a run of `first` is better than a run of `second`, with its interval.

    The estimate is the share of the pairs that the first wins (Mann & Whitney 1947; Agarwal et al. 2021, section 4.3).
    The interval is method 5 of Newcombe (2006), the score interval with Hanley & McNeil's (1982) variance for equal
    numbers: unlike a bootstrap of three seeds, it has a width where one method wins all pairs.

    Args:
        first: the scores of a method, one a seed.
        second: those of the other.
        level: probability of the interval.
        lower_is_better: whether a lower score wins.

    Raises:
        ValueError: a method has no score.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not len(one) or not len(other):
        raise ValueError("a method without a score cannot be compared")
    if lower_is_better:
        one, other = -one, -other
    apart = np.sign(one[:, None] - other[None, :])
    value = float((apart.mean() + 1) / 2)
    from scipy.special import ndtri

    quantile = float(ndtri((1 + level) / 2))

    def excess(probability: float) -> float:
        """Return how much farther a probability is from the estimate than the interval reaches."""
        variance = hanley_mcneil(probability, len(one), len(other))
        return abs(value - probability) - quantile * math.sqrt(variance)

    return Improvement(value, _limit(excess, value, 0.0), _limit(excess, value, 1.0), level)


def hanley_mcneil(probability: float, first: int, second: int) -> float:
    """Return the variance of the estimate (Hanley & McNeil 1982, equation 2, with equal numbers in the correction)."""
    rest = (first + second) / 2 - 1
    pairs = 1 + rest * (1 - probability) / (2 - probability) + rest * probability / (1 + probability)
    return probability * (1 - probability) * pairs / (first * second)


def _limit(excess: Callable[[float], float], value: float, end: float) -> float:
    """Return the probability between the estimate and an end of the scale that the interval just reaches."""
    from scipy.optimize import brentq

    if value == end:
        return end
    # at 0 and 1 the variance is 0, so that the estimate itself is another solution there: begin a little beside it
    return float(brentq(excess, value + 1e-12 * (end - value), end, xtol=1e-14))
