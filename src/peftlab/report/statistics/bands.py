"""Simultaneous confidence bands for a distribution function, from the order statistics of a sample."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

Kind = Literal["highest_density", "equal_tailed", "ks", "dkw"]


@lru_cache(maxsize=256)
def cdf_band(number: int, level: float = 0.95, kind: Kind = "highest_density") -> tuple[np.ndarray, np.ndarray]:
    """Return limits between which the distribution function lies everywhere, with probability `level`.

    Between the i-th and the next of the sorted values, i = 0..n, the function lies between the i-th lower and the i-th
    upper limit. The kinds:

    - ``highest_density`` and ``equal_tailed``: each order statistic's Beta distribution gives it an interval, and all
      have the same probability, just so large that they hold together (Learned-Miller & DeStefano 2008; Lourie, Cho &
      He 2023, "Show Your Work with Confidence", appendix B, who find it by simulation). Here that probability is exact,
      by `coverage`. The band is narrow at both ends, which is where tuning curves are read;
    - ``ks``: equally wide everywhere, exact (Kolmogorov 1933);
    - ``dkw``: the same from an inequality, a little wider (Dvoretzky, Kiefer & Wolfowitz 1956; Massart 1990).

    Args:
        number: values in the sample, n; at least 1.
        level: the probability.
        kind: see above.

    Returns:
        The lower and the upper limits, shape (n + 1,) each.

    Raises:
        ValueError: there is no value.
    """
    if number < 1:
        raise ValueError("there is no value, so there is no band")
    if kind in ("ks", "dkw"):
        from scipy import stats

        half = stats.kstwo.ppf(level, number) if kind == "ks" else np.sqrt(np.log(2 / (1 - level)) / (2 * number))
        steps = np.arange(number + 1) / number
        return _frozen(np.clip(steps - half, 0, 1)), _frozen(np.clip(steps + half, 0, 1))
    from scipy.optimize import brentq

    def excess(local: float) -> float:
        return coverage(*beta_intervals(number, local, kind)) - level

    local = level if number == 1 else brentq(excess, level, 1 - (1 - level) / (2 * number), xtol=1e-12)
    low, high = beta_intervals(number, local, kind)
    return _frozen(np.concatenate([[0.0], low])), _frozen(np.concatenate([high, [1.0]]))


def beta_intervals(number: int, level: float, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Return an interval for each order statistic of a uniform sample, i = 1..n: of probability `level`, shape (n,).

    The i-th is distributed as Beta(i, n + 1 - i). ``highest_density`` is the shortest such interval.
    """
    from scipy.special import betainc, betaincinv

    first = np.arange(1, number + 1, dtype=np.float64)
    second = number + 1 - first
    if kind == "equal_tailed" or number == 1:
        return betaincinv(first, second, (1 - level) / 2), betaincinv(first, second, (1 + level) / 2)
    mode = (first - 1) / (number - 1)
    # the density is the same at both ends of the shortest interval: bisect for its lower end, below the mode
    below, above = np.zeros(number), np.minimum(mode, betaincinv(first, second, 1 - level))
    for _ in range(60):
        low = (below + above) / 2
        high = betaincinv(first, second, np.minimum(betainc(first, second, low) + level, 1.0))
        rising = _log_density(first, second, low) < _log_density(first, second, high)
        below, above = np.where(rising, low, below), np.where(rising, above, low)
    low = (below + above) / 2
    low[0] = 0.0  # the density of Beta(1, n) falls from 0 on
    high = betaincinv(first, second, np.minimum(betainc(first, second, low) + level, 1.0))
    high[-1] = 1.0
    low[-1] = betaincinv(first[-1:], second[-1:], 1 - level)[0]
    return low, high


def coverage(low: np.ndarray, high: np.ndarray) -> float:
    """Return the probability that each order statistic of a uniform sample lies between its limits, exactly.

    How many values lie below t is followed through all limits in order, as in a Poisson process that ends at n
    (Moscovich & Nadler 2017, "Fast calculation of boundary crossing probabilities for Poisson processes", section 2).

    Args:
        low: of the i-th smallest value, ascending, shape (n,).
        high: the same, upper.
    """
    from scipy.special import gammaln, xlogy

    number = len(low)
    times = np.unique(np.concatenate([low, high, [1.0]]))
    # at time t at least as many values as there are upper limits up to t lie below, and at most as many as lower limits
    least = np.searchsorted(high, times, side="right")
    most = np.minimum(np.searchsorted(low, times, side="left"), number)
    most[-1] = number
    state, begin, now = np.ones(1), 0, 0.0
    for time, fewest, largest in zip(times, least, most, strict=True):
        if fewest > largest:
            return 0.0
        added = np.arange(largest - begin + 1)
        mean = number * (time - now)
        arrivals = np.exp(xlogy(added, mean) - mean - gammaln(added + 1))
        state = np.convolve(state, arrivals)[fewest - begin : largest - begin + 1]
        begin, now = fewest, time
    at_end = number * np.log(number) - number - gammaln(number + 1)
    return float(state[number - begin] / np.exp(at_end))


def _log_density(first: np.ndarray, second: np.ndarray, at: np.ndarray) -> np.ndarray:
    from scipy.special import xlog1py, xlogy

    return xlogy(first - 1, at) + xlog1py(second - 1, -at)


def _frozen(values: np.ndarray) -> np.ndarray:
    """Return the array so that nobody can change what is kept for the next caller."""
    values.flags.writeable = False
    return values
