"""Means over seeds, with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mean:
    """The mean of some values, and an interval for the mean of the population that they were drawn from."""

    value: float
    sd: float | None
    """Standard deviation of a single value (divisor n - 1); None for one value."""
    low: float | None
    high: float | None
    number: int
    level: float
    """The probability with which such intervals cover the population's mean."""


def mean(values: Sequence[float], level: float = 0.95) -> Mean:
    """Return the mean with its interval by Student's t (Student 1908), which takes the values for normally distributed.

    Raises:
        ValueError: there is no value.
    """
    value = _mean(values)
    if len(values) < 2:
        return Mean(value, None, None, None, len(values), level)
    from scipy.special import stdtrit

    sd = statistics.stdev(values)
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * sd / math.sqrt(len(values))
    return Mean(value, sd, value - half, value + half, len(values), level)


def bca_mean(values: Sequence[float], level: float = 0.95, resamples: int = 9999, seed: int = 0) -> Mean:
    """Return the mean with its bootstrap interval, corrected for bias and acceleration (Efron 1987).

    It assumes no distribution, but with fewer than about 20 values it is too short: Student's t is then the better
    choice. If all values are equal, it has no width.

    Raises:
        ValueError: there is no value.
    """
    value, number = _mean(values), len(values)
    if number < 2:
        return Mean(value, None, None, None, number, level)
    sample = np.asarray(values, np.float64)
    drawn = sample[np.random.default_rng(seed).integers(0, number, (resamples, number))].mean(axis=1)
    without = (sample.sum() - sample) / (number - 1)
    low, high = bca_limits(drawn, value, without, level)
    return Mean(value, statistics.stdev(values), low, high, number, level)


def bca_limits(drawn: np.ndarray, value: float, without: np.ndarray, level: float) -> tuple[float, float]:
    """Return the limits of the BCa interval (Efron 1987, equation 3.8, DiCiccio & Efron 1996, equations 2.3 and 6.6).

    Args:
        drawn: the bootstrap replicates, shape (resamples,).
        value: the estimate.
        without: the estimate without each unit, shape (units,).
        level: the probability of the interval.
    """
    from scipy.special import ndtr, ndtri

    if drawn.min() == drawn.max():
        return float(drawn[0]), float(drawn[0])
    # ties count half, so that a discrete score is not taken for a biased one
    below = ((drawn < value).sum() + (drawn <= value).sum()) / (2 * len(drawn))
    bias = ndtri(below)
    apart = without.mean() - without
    spread = (apart**2).sum()
    acceleration = (apart**3).sum() / (6 * spread**1.5) if spread else 0.0
    shifted = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(drawn, ndtr(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


def _mean(values: Sequence[float]) -> float:
    if not len(values):
        raise ValueError("there is no value, so there is no mean")
    return statistics.fmean(values)
