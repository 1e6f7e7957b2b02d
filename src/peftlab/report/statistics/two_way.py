"""Two sources of variation at once: the mean of a table such as draws of the shots by patterns, with its uncertainty.

A result with few labels depends on which examples were drawn and on how the question was put; one on active learning on
the pool and on the seed, one on a stream of tasks on the seed and on the order. Each pair is crossed: every draw is
combined with every pattern. The value in row i and column j is taken as

    value = mean + row(i) + column(j) + rest(i, j),

with random effects, so that an interval speaks of other draws *and* other patterns. An interval over the draws of one
pattern says nothing of the pattern's choice, which may be worth more than the method.

Rows and columns are resampled independently (the crossed, or pigeonhole, bootstrap: McCullagh 2000; Owen 2007). The
replicates have the shape of the distribution, but not its width: with three rows their variance is a third too small,
and that of the rest counts three times (Owen 2007); and a few values have no far quantiles. So the quantiles are
stretched about the mean to the width of Student's interval, whose standard error is that of the components of variance
(`peftlab.report.statistics.crossed.components`), in the spirit of the expanded percentiles of Hesterberg (2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from peftlab.report.statistics.crossed import components


@dataclass(frozen=True)
class TwoWay:
    """The mean of a two-way table, with an interval for other rows and other columns."""

    value: float
    low: float | None
    """None where nothing is known of the uncertainty: one row and one column."""
    high: float | None
    se: float | None
    """Standard error of the mean."""
    df: float | None
    """Degrees of freedom of the standard error."""
    level: float
    """The probability with which such intervals cover the mean."""
    rows_sd: float | None
    """Standard deviation between rows, over endlessly many columns; None with one row."""
    columns_sd: float | None
    """Standard deviation between columns, over endlessly many rows; None with one column."""
    rest_sd: float | None
    """Standard deviation of what a row and a column make together, noise included; None with one of either."""
    shape: tuple[int, int]

    def p(self) -> float | None:
        """Return the two-sided p value of the hypothesis that the mean is 0, by Student's t; None without `se`."""
        if self.se is None or self.df is None:
            return None
        if not self.se:  # where nothing varies, nothing is known of how much it could
            return 1.0
        from scipy.special import stdtr

        return float(2 * stdtr(self.df, -abs(self.value) / self.se))


def crossed(values: np.ndarray, resamples: int = 10_000, level: float = 0.95, seed: int = 0) -> TwoWay:
    """Return the mean of a complete table with the interval of the crossed bootstrap.

    With one row, or one column, the interval covers the variation of the other factor alone.

    Args:
        values: shape (rows, columns), such as a score for each draw and pattern.
        resamples: number of resamples.
        level: probability of the interval.
        seed: of the resamples.

    Raises:
        ValueError: it is no table, is empty, or lacks a value.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"expected a table of numbers, rows x columns, without gaps; its shape is {values.shape}")
    value, (rows, columns) = float(values.mean()), values.shape
    rows_sd = columns_sd = rest_sd = None
    if min(rows, columns) > 1:
        parts = components(values)
        rows_sd, columns_sd, rest_sd = (math.sqrt(part) for part in (parts.seed, parts.cluster, parts.rest))
        se, df = _of_both(rows_sd, columns_sd, rest_sd, rows, columns)
    elif max(rows, columns) > 1:
        sd, df = float(values.std(ddof=1)), max(rows, columns) - 1.0
        rows_sd, columns_sd = (sd, None) if rows > 1 else (None, sd)
        se = sd / math.sqrt(values.size)
    else:
        return TwoWay(value, None, None, None, None, level, None, None, None, (rows, columns))
    if se <= 1e-13 * max(1.0, abs(value)):  # equal values, but for the rounding of their mean
        return TwoWay(value, value, value, 0.0, df, level, rows_sd, columns_sd, rest_sd, (rows, columns))
    low, high = _stretched(values, se, df, resamples, level, seed)
    return TwoWay(value, low, high, se, df, level, rows_sd, columns_sd, rest_sd, (rows, columns))


def paired_crossed(
    first: np.ndarray, second: np.ndarray, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> TwoWay:
    """Return the mean of `first` minus `second`, two methods on the same rows and columns, as `crossed` does.

    What makes a draw or a pattern hard for both cancels out. A method without patterns has one column, which is
    compared with every column of the other.

    Raises:
        ValueError: the tables do not belong to the same rows and columns, or one lacks a value.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    pairs = [*zip(first.shape, second.shape, strict=False)]
    if not first.ndim == second.ndim == 2 or any(one != other and 1 not in (one, other) for one, other in pairs):
        raise ValueError(f"tables of {first.shape} and {second.shape}; expected the same rows, columns, in both")
    return crossed(first - second, resamples, level, seed)


def _of_both(rows_sd: float, columns_sd: float, rest_sd: float, rows: int, columns: int) -> tuple[float, float]:
    """Return the standard error of the mean, and its degrees of freedom by Satterthwaite (1946).

    These never fall below those of the factor with fewer levels (Hillis 2007).
    """
    rest = rest_sd**2 / (rows * columns)
    by_row, by_column = rows_sd**2 / rows + rest, columns_sd**2 / columns + rest
    variance = by_row + by_column - rest
    fewest = min(rows, columns) - 1
    spread = by_row**2 / (rows - 1) + by_column**2 / (columns - 1) + rest**2 / ((rows - 1) * (columns - 1))
    return math.sqrt(variance), max(variance**2 / spread, fewest) if spread else fewest


def _stretched(
    values: np.ndarray, se: float, df: float, resamples: int, level: float, seed: int
) -> tuple[float, float]:
    """Return the quantiles of the crossed bootstrap, stretched about the mean to the width of Student's interval."""
    from scipy.special import stdtrit

    random, value = np.random.default_rng(seed), values.mean()
    by_row, by_column = (
        random.multinomial(number, np.full(number, 1 / number), resamples) / number for number in values.shape
    )
    means = ((by_row @ values) * by_column).sum(axis=1)
    upper = (1 + level) / 2
    low, high = np.quantile(means, [1 - upper, upper])
    stretch = 2 * se * stdtrit(df, upper) / (high - low)
    return float(value + stretch * (low - value)), float(value + stretch * (high - value))
