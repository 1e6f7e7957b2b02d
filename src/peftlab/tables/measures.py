"""How well do scores tell two kinds of rows apart, and do probabilities mean what they say?

Measures take weights, so that a resample is how often each row is drawn. `y` is True where what the score
forecasts has happened, such as a default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from peftlab.report.statistics.calibration import LEAST_PROBABILITY
from peftlab.report.statistics.membership import area
from peftlab.scores.ordering import auc, weights_by_score

BINS = 10
"""Equally large bins of the probabilities."""


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Forecast and outcome by bins of equally many rows."""

    edges: tuple[float, ...]
    forecast: tuple[float, ...]
    """Mean probability of each bin."""
    outcome: tuple[float, ...]
    """Share of rows in which it happened."""
    number: tuple[int, ...]


def gini(scores: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return 2 AUC - 1, which the field of credit scoring calls Gini or accuracy ratio."""
    return 2 * auc(scores, y, weights) - 1


def ks(scores: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the largest distance of the two cumulative distributions of the scores (Kolmogorov & Smirnov)."""
    shares = [np.cumsum(each) / each.sum() for each in weights_by_score(scores, y, weights)]
    return float(np.abs(shares[0] - shares[1]).max())


def brier(probabilities: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the mean squared distance of the probability from what happened, from 0 to 1 (Brier 1950)."""
    return float(np.average((probabilities - y) ** 2, weights=weights))


def log_loss(probabilities: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the mean negative log likelihood, in nats."""
    likelihood = np.where(y, probabilities, 1 - probabilities)
    return float(np.average(-np.log(np.maximum(likelihood, LEAST_PROBABILITY)), weights=weights))


def calibration_error(probabilities: np.ndarray, y: np.ndarray) -> float:
    """Return the mean distance of forecast and outcome over bins of equally many rows."""
    curve = calibration_curve(probabilities, y)
    apart = np.abs(np.subtract(curve.forecast, curve.outcome))
    return float((apart * curve.number).sum() / sum(curve.number))


def error_if_calibrated(probabilities: np.ndarray, draws: int = 200, seed: int = 0) -> float:
    """Return the mean calibration error of outcomes that are drawn from the probabilities.

    It is above 0, for bins of few rows differ from their probability by chance. A resample of the rows adds chance to
    chance, so that the bootstrap gives no interval of this error.
    """
    random = np.random.default_rng(seed)
    drawn = (random.random(len(probabilities)) < probabilities for _ in range(draws))
    return float(np.mean([calibration_error(probabilities, y) for y in drawn]))


def calibration_curve(probabilities: np.ndarray, y: np.ndarray, bins: int = BINS) -> Curve:
    """Return forecast and outcome by bins of equally many rows; equal probabilities share a bin.

    If all are equal, the bin is from 0 to 1.
    """
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, bins + 1)))
    edges = edges if len(edges) > 1 else np.array([0.0, 1.0])
    place = np.clip(np.searchsorted(edges, probabilities, "right") - 1, 0, max(len(edges) - 2, 0))
    used = np.unique(place)
    edges = np.unique([*edges[used], edges[-1]])
    return Curve(
        edges=tuple(edges.tolist()),
        forecast=tuple(float(probabilities[place == one].mean()) for one in used),
        outcome=tuple(float(y[place == one].mean()) for one in used),
        number=tuple(int((place == one).sum()) for one in used),
    )


def brier_parts(probabilities: np.ndarray, y: np.ndarray, bins: int = BINS) -> dict[str, float]:
    """Return the parts of the Brier score: reliability - resolution + uncertainty + within (Murphy 1973).

    ``within`` is what the bins hide (Stephenson, Coelho & Jolliffe 2008): the variance of the probabilities in a bin,
    less twice their covariance with what happened.
    """
    curve, rate = calibration_curve(probabilities, y, bins), float(y.mean())
    forecast, outcome, share = (np.array(each) for each in (curve.forecast, curve.outcome, curve.number))
    share = share / share.sum()
    parts = {
        "reliability": float((share * (forecast - outcome) ** 2).sum()),
        "resolution": float((share * (outcome - rate) ** 2).sum()),
        "uncertainty": rate * (1 - rate),
    }
    binned = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
    return {**parts, "within": brier(probabilities, y) - binned}


def delong(scores: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the AUCs of several scores of the same rows and their covariance (DeLong, DeLong & Clarke-Pearson 1988).

    By midranks, as Sun & Xu (2014).

    Args:
        scores: shape (models, rows).
        y: shape (rows,).

    Returns:
        The AUCs, shape (models,), and their covariance, shape (models, models).
    """
    from scipy.stats import rankdata

    positive, negative = scores[:, y], scores[:, ~y]
    m, n = positive.shape[1], negative.shape[1]
    ranks = rankdata(scores, axis=1)
    of_positive = (ranks[:, y] - rankdata(positive, axis=1)) / n  # the share of the others that each one is above
    of_negative = 1 - (ranks[:, ~y] - rankdata(negative, axis=1)) / m
    covariance = np.atleast_2d(np.cov(of_positive)) / m + np.atleast_2d(np.cov(of_negative)) / n
    return of_positive.mean(axis=1), covariance


def auc_interval(
    scores: np.ndarray, y: np.ndarray, level: float = 0.95, clusters: np.ndarray | None = None
) -> Interval:
    """Return the AUC with DeLong's interval; where all rows are in order, that of `membership.area`, which has a width.

    Args:
        scores: shape (rows,).
        y: shape (rows,).
        level: probability of the interval.
        clusters: of the rows, which only the latter knows; None: each row for itself.
    """
    (value,), covariance = delong(scores[None], y)
    if value in (0, 1):
        whole = area(scores, y, np.arange(len(y)) if clusters is None else clusters, level)
        return Interval(whole.value, whole.low, whole.high)
    return _normal(float(value), float(covariance[0, 0]), level, 0.0)


def auc_difference(first: np.ndarray, second: np.ndarray, y: np.ndarray, level: float = 0.95) -> Interval:
    """Return the AUC of `first` minus that of `second` on the same rows, with DeLong's interval."""
    values, covariance = delong(np.stack([first, second]), y)
    contrast = np.array([1.0, -1.0])
    return _normal(float(contrast @ values), float(contrast @ covariance @ contrast), level, -1.0)


def resampled(
    measures: Mapping[str, Callable[[np.ndarray | None], float]],
    clusters: np.ndarray,
    y: np.ndarray,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return measures with percentile intervals of the bootstrap over clusters, all on the same resamples.

    Args:
        measures: by name, what a measure is with these weights of the rows; None: all weigh the same.
        clusters: the cluster of each row, 0, 1, ..., such as its applicant.
        y: shape (rows,); resamples in which it happened in every row or in none are left out.
        resamples: how many.
        level: probability of the intervals.
        seed: of the draws.
    """
    random, number = np.random.default_rng(seed), int(clusters.max()) + 1
    drawn: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(resamples):
        weights = np.bincount(random.integers(0, number, number), minlength=number)[clusters].astype(np.float64)
        if 0 < weights[y].sum() < weights.sum():
            for name, measure in measures.items():
                drawn[name].append(measure(weights))
    limits = [(1 - level) / 2, (1 + level) / 2]
    return {
        name: Interval(measures[name](None), *map(float, np.quantile(values, limits))) for name, values in drawn.items()
    }


def _normal(value: float, variance: float, level: float, least: float) -> Interval:
    from scipy.special import ndtri

    half = float(ndtri((1 + level) / 2)) * math.sqrt(max(variance, 0.0))
    return Interval(value, max(value - half, least), min(value + half, 1.0))
