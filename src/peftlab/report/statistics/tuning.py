"""How good is the best of a number of trials? A curve over the tuning budget, never without its band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.report.statistics.bands import Kind, cdf_band
from peftlab.scores.scorer import Direction


@dataclass(frozen=True)
class TuningCurve:
    """The median score of the best of n trials, with a band that holds for all n together."""

    budgets: tuple[int, ...]
    """Numbers of trials, n."""
    point: tuple[float, ...]
    low: tuple[float | None, ...]
    """None: unbounded, as the scores have no bound and the trials do not say."""
    high: tuple[float | None, ...]
    level: float
    trials: int
    """How many were observed."""


def tuning_curve(
    scores: Sequence[float],
    budgets: Sequence[int] | None = None,
    level: float = 0.95,
    direction: Direction = "max",
    bounds: tuple[float, float] = (-math.inf, math.inf),
    kind: Kind = "highest_density",
) -> TuningCurve:
    """Return the tuning curve of a search at random, with its exact simultaneous band (Lourie, Cho & He 2023).

    The best of n trials has the distribution function Fⁿ, so its median is the quantile of F at 0.5^(1/n); limits of F
    become limits of the curve. Estimates of the mean of the best (Dodge et al. 2019; Tang et al. 2020) are biased, or
    vary so much that they lead to wrong conclusions, and need more trials than the budget.

    Args:
        scores: of the trials, which must be independent draws from one distribution of settings, as in a random search.
        budgets: numbers of trials; None: from 1 to as many as there are.
        level: probability with which the band covers the whole curve.
        direction: which scores are better.
        bounds: the least and the greatest possible score.
        kind: how the band is made, see `peftlab.report.statistics.bands.cdf_band`.

    Raises:
        ValueError: there is no trial, a budget is not positive, or a score is out of bounds.
    """
    values = np.sort(np.asarray(scores, np.float64))
    number = len(values)
    if not number:
        raise ValueError("there is no trial, so there is no tuning curve")
    if values[0] < bounds[0] or values[-1] > bounds[1]:
        raise ValueError(f"a score lies outside of {bounds}")
    ns = np.arange(1, number + 1) if budgets is None else np.asarray(budgets, np.int64)
    if (ns < 1).any():
        raise ValueError("a budget is a number of trials, at least 1")
    quantiles = 0.5 ** (1 / ns) if direction == "max" else 1 - 0.5 ** (1 / ns)
    low_cdf, high_cdf = cdf_band(number, level, kind)
    extended = np.concatenate([[bounds[0]], values, [bounds[1]]])
    return TuningCurve(
        budgets=tuple(int(n) for n in ns),
        point=tuple(_quantiles(np.arange(number + 1) / number, extended, quantiles)),
        low=tuple(value if math.isfinite(value) else None for value in _quantiles(high_cdf, extended, quantiles)),
        high=tuple(value if math.isfinite(value) else None for value in _quantiles(low_cdf, extended, quantiles)),
        level=level,
        trials=number,
    )


def _quantiles(cdf: np.ndarray, extended: np.ndarray, quantiles: np.ndarray) -> list[float]:
    """Return the smallest values at which a distribution function reaches `quantiles`.

    Args:
        cdf: after each of n sorted values, from before the first, shape (n + 1,).
        extended: the lower bound, the values, and the upper bound, shape (n + 2,).
        quantiles: where to look, shape (budgets,).
    """
    places = np.searchsorted(cdf, quantiles - 1e-12)  # i / n may differ from a quantile by rounding alone
    return [float(value) for value in extended[places]]
