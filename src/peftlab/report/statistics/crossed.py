"""Seeds and test set together: the uncertainty of a method's score, and of the difference between two methods.

All runs of a study are scored on one test set. A score varies with the seed, and with the clusters that happen to be in
the test set; the two are crossed random effects, as readers and cases are in radiology (Obuchowski & Rockette 1995;
Hillis 2007) and subjects and words in psycholinguistics (Clark 1973, "The language-as-fixed-effect fallacy"). Averaging
over more seeds shrinks the part of the seeds, and leaves that of the test set as it is.

The contribution y of cluster j to the score of seed i (`peftlab.report.statistics.measured.pseudo_values`) is taken as

    y = mean + seed(i) + cluster(j) + rest(i, j),

and the variance of the mean over k seeds and C clusters is that of the k scores, divided by k (which contains
rest/(kC)), plus cluster/C, estimated from the mean squares and not below 0. Degrees of freedom are Satterthwaite's
(1946), as Hillis (2007, equation 9) has them, with a term for the number of clusters; like his, they never fall below
those of the smallest part.

With few seeds their k scores can lie closer together than the rest alone would have them. A difference takes them as
they are: only so are as many false claims made, and as many differences found, as is stated. The mean of one method is
no claim, and errs on the safe side: its variance counts rest/(kC) at least, as `components` does, and its interval is
no narrower than that over seeds or over test sets alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from peftlab.report.statistics.measured import Measured

Covers = Literal["nothing", "seeds", "test set", "seeds and test set"]
"""Which sources of variation an interval covers."""


@dataclass(frozen=True)
class Estimate:
    """A mean score, or a difference of two, with an interval for other seeds and other test sets."""

    value: float
    se: float | None
    """Standard error; None where nothing can be said of it, as are the limits."""
    df: float | None
    """Degrees of freedom of the standard error."""
    low: float | None
    high: float | None
    level: float
    """The probability with which such intervals cover the mean."""
    covers: Covers
    seeds: int
    """Of the method with fewer."""
    clusters: int | None
    """None: not known, as no predictions are kept."""

    def p(self, value: float = 0.0) -> float | None:
        """Return the two-sided p value of the hypothesis that the mean is `value`; None without a standard error.

        Where nothing varies, nothing is known about how much it could, and the p value is 1.
        """
        if self.se is None or self.df is None:
            return None
        if not self.se:
            return 1.0
        from scipy.special import stdtr

        return float(2 * stdtr(self.df, -abs(self.value - value) / self.se))


@dataclass(frozen=True)
class Shares:
    """Where the variance of a mean comes from; the three parts add up to 1 unless nothing varies."""

    seed: float
    cluster: float
    rest: float
    se: float
    """Standard error of the mean."""


@dataclass(frozen=True)
class Components:
    """The variances of the parts of a score."""

    seed: float
    """Between seeds, on endlessly many clusters."""
    cluster: float
    """Between clusters, over endlessly many seeds; that of one cluster's contribution to the score."""
    rest: float
    """What the seed changes in one cluster."""
    seeds: int
    clusters: int

    def variance(self, seeds: float, clusters: float) -> float:
        """Return the variance of the mean over that many seeds and clusters."""
        return self.seed / seeds + self.cluster / clusters + self.rest / (seeds * clusters)

    def shares(self) -> Shares:
        """Return the shares in the variance of the mean over the seeds and clusters that were measured."""
        total = self.variance(self.seeds, self.clusters)
        scale = 1 / total if total else 0.0
        return Shares(
            seed=self.seed / self.seeds * scale,
            cluster=self.cluster / self.clusters * scale,
            rest=self.rest / (self.seeds * self.clusters) * scale,
            se=math.sqrt(total),
        )


@dataclass(frozen=True)
class _MeanSquares:
    """Estimates of the variance of the mean, each containing that of the rest."""

    by_seed: float
    by_cluster: float
    rest: float


def components(values: np.ndarray) -> Components:
    """Return the variance components of a score, by the analysis of variance (Searle, Casella & McCulloch 1992, ch. 4).

    Negative estimates become 0.

    Args:
        values: the pseudo-values of a score, or of a difference between two methods seed by seed, shape
            (seeds, clusters).

    Raises:
        ValueError: there are fewer than two seeds or two clusters.
    """
    seeds, clusters = values.shape
    if seeds < 2 or clusters < 2:
        raise ValueError(f"{seeds} seeds and {clusters} clusters: variances need at least two of each")
    squares = _mean_squares(values)
    return Components(
        seed=max(squares.by_seed - squares.rest, 0.0) * seeds,
        cluster=max(squares.by_cluster - squares.rest, 0.0) * clusters,
        rest=squares.rest * seeds * clusters,
        seeds=seeds,
        clusters=clusters,
    )


def components_of_difference(first: np.ndarray, second: np.ndarray, paired: bool) -> Components:
    """Return the variance components of the difference between two methods.

    Unpaired, those of seeds and rest are the sums of both methods', which is what they are where each method has as
    many seeds as the other; `seeds` is the harmonic mean of the numbers, rounded.

    Args:
        first: the pseudo-values of a method, shape (seeds, clusters).
        second: those of the other, on the same clusters.
        paired: whether the rows belong together.

    Raises:
        ValueError: there are fewer than two seeds or two clusters.
    """
    if paired:
        return components(first - second)
    one, other = components(first), components(second)
    clusters = first.shape[1]
    apart = first.mean(axis=0) - second.mean(axis=0)
    rest = one.rest / (one.seeds * clusters) + other.rest / (other.seeds * clusters)
    return Components(
        seed=one.seed + other.seed,
        cluster=max(float(apart.var(ddof=1)) / clusters - rest, 0.0) * clusters,
        rest=one.rest + other.rest,
        seeds=round(2 / (1 / one.seeds + 1 / other.seeds)),
        clusters=clusters,
    )


def expected(measured: Measured, level: float = 0.95) -> Estimate:
    """Return the mean score of a method over its seeds, with an interval for other seeds and other test sets.

    Without pseudo-values it covers the seeds only, and for one seed the test set only. Standard error and interval are
    never smaller than those over seeds or over test sets alone.

    Raises:
        ValueError: there is no run.
    """
    if not len(measured.scores):
        raise ValueError(f"{measured.name}: there is no run, so there is no score")
    values = measured.pseudo_values
    if values is None:
        return _of_seeds(measured.scores, level)
    return _of_values(values, level) if min(values.shape) < 2 else _no_surer_than_its_parts(values, level)


def difference(first: Measured, second: Measured, paired: bool, level: float = 0.95) -> Estimate:
    """Return the mean score of `first` minus that of `second`, with an interval for other seeds and other test sets.

    Args:
        first: a method.
        second: another, on the same test set.
        paired: whether to subtract seed by seed, for which both need the same seeds. Unpaired, the variances of the
            two methods' seeds add up, as in Welch's test (1947): right if a seed has nothing in common in two methods,
            and on the safe side if it has. Paired, there are half as many degrees of freedom, and with 3 seeds false
            claims are more frequent than stated (``experiments/report_statistics``).
        level: probability of the interval.

    Raises:
        ValueError: a method has no run; the clusters differ; paired: the seeds differ.
    """
    if not len(first.scores) or not len(second.scores):
        raise ValueError(f"{first.name}, {second.name}: a method without a run cannot be compared")
    if paired and sorted(first.seeds) != sorted(second.seeds):
        raise ValueError(f"{first.name} has the seeds {first.seeds}, {second.name} {second.seeds}: they make no pairs")
    one, other = first.pseudo_values, second.pseudo_values
    if one is not None and other is not None and one.shape[1] != other.shape[1]:
        raise ValueError(
            f"{first.name} was scored on {one.shape[1]} clusters, {second.name} on {other.shape[1]}: compare methods "
            "on one test set"
        )
    if paired:
        order, partner = np.argsort(first.seeds), np.argsort(second.seeds)
        if one is None or other is None:
            return _of_seeds(first.scores[order] - second.scores[partner], level)
        return _of_values(one[order] - other[partner], level)
    if one is None or other is None:
        return _unpaired_of_seeds(first.scores, second.scores, level)
    return _unpaired_of_values(one, other, level)


def _mean_squares(values: np.ndarray) -> _MeanSquares:
    seeds, clusters = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    rest = values - rows[:, None] - columns + values.mean()
    return _MeanSquares(
        by_seed=float(rows.var(ddof=1)) / seeds,
        by_cluster=float(columns.var(ddof=1)) / clusters,
        rest=float((rest**2).sum()) / ((seeds - 1) * (clusters - 1)) / (seeds * clusters),
    )


def _of_seeds(scores: np.ndarray, level: float) -> Estimate:
    number = len(scores)
    if number < 2:
        return _unknown(float(scores.mean()), level, number, None)
    variance = float(scores.var(ddof=1)) / number
    return _interval(float(scores.mean()), variance, number - 1, level, "seeds", number, None)


def _unpaired_of_seeds(first: np.ndarray, second: np.ndarray, level: float) -> Estimate:
    value, fewest = float(first.mean() - second.mean()), min(len(first), len(second))
    if fewest < 2:
        return _unknown(value, level, fewest, None)
    parts = [(float(one.var(ddof=1)) / len(one), len(one) - 1) for one in (first, second)]
    variance = sum(part for part, _ in parts)
    return _interval(value, variance, _satterthwaite(variance, parts), level, "seeds", fewest, None)


def _of_values(values: np.ndarray, level: float) -> Estimate:
    seeds, clusters = values.shape
    value = float(values.mean())
    if clusters < 2:
        return _of_seeds(values[:, 0], level)
    if seeds < 2:
        return _of_test_set(value, values[0], level, seeds)
    squares = _mean_squares(values)
    parts = [(squares.by_seed, seeds - 1)]
    return _with_clusters(value, parts, squares.by_cluster, squares.rest, level, seeds, clusters)


def _unpaired_of_values(first: np.ndarray, second: np.ndarray, level: float) -> Estimate:
    clusters, fewest = first.shape[1], min(len(first), len(second))
    value = float(first.mean() - second.mean())
    apart = first.mean(axis=0) - second.mean(axis=0)
    if clusters < 2:
        return _unpaired_of_seeds(first[:, 0], second[:, 0], level)
    if fewest < 2:
        return _of_test_set(value, apart, level, fewest)
    squares = [_mean_squares(one) for one in (first, second)]
    parts = [(one.by_seed, len(values) - 1) for one, values in zip(squares, (first, second), strict=True)]
    rest = sum(one.rest for one in squares)
    return _with_clusters(value, parts, float(apart.var(ddof=1)) / clusters, rest, level, fewest, clusters)


def _of_test_set(value: float, values: np.ndarray, level: float, seeds: int) -> Estimate:
    clusters = len(values)
    return _interval(value, float(values.var(ddof=1)) / clusters, clusters - 1, level, "test set", seeds, clusters)


def _with_clusters(
    value: float,
    by_seed: list[tuple[float, int]],
    by_cluster: float,
    rest: float,
    level: float,
    seeds: int,
    clusters: int,
) -> Estimate:
    """Return the estimate from the variances of the mean by seed, each with its degrees of freedom, and by cluster."""
    excess = max(by_cluster - rest, 0.0)
    variance = sum(part for part, _ in by_seed) + excess
    df = _satterthwaite(variance, [*by_seed, (excess, clusters - 1)])
    return _interval(value, variance, df, level, "seeds and test set", seeds, clusters)


def _no_surer_than_its_parts(values: np.ndarray, level: float) -> Estimate:
    """Return the mean over seeds and clusters, of which there are two or more each, on the safe side."""
    seeds, clusters = values.shape
    squares = _mean_squares(values)
    by_seed = squares.by_seed, seeds - 1
    missing = max(squares.rest - squares.by_seed, 0.0), (seeds - 1) * (clusters - 1)
    excess = max(squares.by_cluster - squares.rest, 0.0), clusters - 1
    variance = by_seed[0] + missing[0] + excess[0]
    whole = variance, _satterthwaite(variance, [by_seed, missing, excess])
    over_both, *alone = (
        _interval(float(values.mean()), part, df, level, "seeds and test set", seeds, clusters)
        for part, df in (whole, by_seed, (squares.by_cluster, clusters - 1))
    )
    low = min(one.low for one in (over_both, *alone) if one.low is not None)
    return replace(over_both, low=low, high=2 * over_both.value - low)


def _satterthwaite(variance: float, parts: list[tuple[float, int]]) -> float:
    spread = sum(part**2 / df for part, df in parts)
    return variance**2 / spread if spread else float(sum(df for _, df in parts))


def _interval(
    value: float, variance: float, df: float, level: float, covers: Covers, seeds: int, clusters: int | None
) -> Estimate:
    from scipy.special import stdtrit

    # what never varies must not seem certain because its mean is rounded
    se = math.sqrt(variance) if variance > 1e-26 * max(1.0, value**2) else 0.0
    half = float(stdtrit(df, (1 + level) / 2)) * se
    return Estimate(value, se, df, value - half, value + half, level, covers, seeds, clusters)


def _unknown(value: float, level: float, seeds: int, clusters: int | None) -> Estimate:
    return Estimate(value, None, None, None, None, level, "nothing", seeds, clusters)
