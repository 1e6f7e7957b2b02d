"""How often a watch alerts where nothing changes: simulated from the baseline, which sets its level, and replayed.

Both make whole streams, each with a baseline and a month of windows, and do to each what is done to the real one: the
baseline's means are estimated anew, so that their error is part of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.opinion.detectors import Detection
from peftlab.opinion.monitor import Monitor, Tails
from peftlab.opinion.normal import Normal
from peftlab.opinion.series import Design, Values

MONTH = 30 * 86400.0
"""Seconds of a month."""
MOST_VALUES, MOST_STREAMS, FEWEST_STREAMS = 8_000_000, 1_000, 100
"""Of a simulation: values of all series, and streams."""
_LEAST_LEVEL, _MOST_LEVEL, _HALVINGS = 1e-7, 0.5, 12
_AT_ONCE = 20_000_000
_REPLAYS = 200


@dataclass(frozen=True)
class Plan:
    """What all streams of a watch have in common.

    Attributes:
        phases: of the windows of the baseline and after, shape (baseline + months,).
        baseline: the number of its windows.
        months: the months after it.
        season: the number of phases.
        least: the floor of the variances, shape (series,).
        shift: that is to be found fast, shape (series,).
        min_count: a window with fewer texts says nothing.
        families: the places of series that are judged together, see `Monitor`.
    """

    phases: np.ndarray
    baseline: int
    months: float
    season: int
    least: np.ndarray
    shift: np.ndarray
    min_count: int
    families: Sequence[np.ndarray]

    def normal(self, values: Values) -> Normal:
        """Return what is normal in the baseline of streams."""
        base = self.sufficient(values[: self.baseline])
        return Normal.of(base, self.phases[: self.baseline], self.season, self.least, self.shift)

    def sufficient(self, values: Values) -> Values:
        """Return values without those of too few texts."""
        return Values(np.where(values.n >= self.min_count, values.x, np.nan), values.n, values.u)

    def standardised(self, values: Values) -> tuple[np.ndarray, np.ndarray]:
        """Return what is standardised after the baseline, shape (windows, streams, series), and k."""
        normal, after = self.normal(values), self.sufficient(values)
        places = range(self.baseline, len(self.phases))
        return np.stack([normal.standardised(after[n], self.phases[n]) for n in places]), normal.k


@dataclass(frozen=True)
class Calibration:
    """The level of a watch.

    Attributes:
        tails: of the statistics where nothing changes.
        level: of the procedure of Benjamini and Hochberg in a window.
        rate: alerts a month in the simulation with this level, over all series.
        streams: that were simulated.
    """

    tails: Tails
    level: float
    rate: float
    streams: int


def windows_of(width: float) -> tuple[int, float]:
    """Return how many windows a simulation has after the baseline, and how many months these are: one, or more."""
    windows = max(30, math.ceil(MONTH / width))
    return windows, windows * width / MONTH


def streams_of(plan: Plan) -> int:
    """Return how many streams can be simulated."""
    values = len(plan.phases) * len(plan.least)
    return int(np.clip(MOST_VALUES // values, FEWEST_STREAMS, MOST_STREAMS))


def null_streams(
    plan: Plan, design: Design, counts: np.ndarray, others: Values, streams: int, random: np.random.Generator
) -> Values:
    """Return streams in which nothing changes, of shape (windows, streams, series).

    The texts of a window are drawn from the cells of the whole baseline, so that all shares of a stream hang together
    as they do; the shares vary from window to window as much beyond chance as in the baseline (Dirichlet-multinomial).
    Windows have the sizes of those of the baseline. Other series are normal.

    Args:
        plan: of the watch.
        design: of the shares.
        counts: of the cells in the windows of the baseline, shape (windows, cells).
        others: values of the series that do not follow from cells, in the same windows.
        streams: how many.
        random: the source of the draws.
    """
    base, number = plan.phases[: plan.baseline], others.x.shape[-1]
    shares = len(plan.least) - number
    normal = Normal.of(plan.sufficient(design.values(counts).beside(others)), base, plan.season, plan.least, plan.shift)
    spread = _spread(plan, design, counts, normal.variance[:shares])
    pooled = counts.sum(0) / counts.sum()
    sizes = counts.sum(1).astype(np.int64)
    most = max(1, _AT_ONCE // (len(plan.phases) * len(pooled)))
    parts = []
    for begin in range(0, streams, most):
        shape = (len(plan.phases), min(most, streams - begin))
        drawn = random.integers(0, plan.baseline, shape)
        drawn[: plan.baseline] = np.arange(plan.baseline)[:, None]
        n = sizes[drawn]
        if spread > 1.01:
            usual = max(2.0, float(sizes.mean()))
            concentration = max((usual - spread) / (spread - 1), 1e-3)
            gammas = random.standard_gamma(pooled * concentration, (*shape, len(pooled))) + 1e-300
            cells = random.multinomial(n, gammas / gammas.sum(-1, keepdims=True))
        else:
            cells = random.multinomial(n, pooled)
        values = design.values(cells.astype(float))
        if number:
            own = np.nan_to_num(others.n[drawn])
            deviation = np.sqrt(normal.variance[shares:] / np.maximum(own, 1.0))
            x = np.nan_to_num(normal.mean[0, shares:]) + deviation * random.standard_normal(own.shape)
            values = values.beside(Values(x, own, np.broadcast_to(normal.variance[shares:], own.shape)))
        parts.append(values)
    return Values(*(np.concatenate(part, 1) for part in zip(*(one.parts for one in parts), strict=True)))


def _spread(plan: Plan, design: Design, counts: np.ndarray, variance: np.ndarray) -> float:
    """Return how much more shares vary between windows than by chance: the median over the series."""
    pooled = design.values(counts.sum(0))
    ratios = variance / np.maximum(np.maximum(pooled.u, plan.least[: len(variance)]), 1e-12)
    return float(np.nanmedian(ratios)) if len(ratios) else 1.0


def replayed_streams(plan: Plan, values: Values, streams: int, random: np.random.Generator) -> Values:
    """Return streams made of the baseline's own windows: a block bootstrap (Künsch 1989) of what is left of them when
    the mean of their phase is taken off, which keeps how series and neighbouring windows hang together.

    Args:
        plan: of the watch.
        values: of the windows of the baseline.
        streams: how many.
        random: the source of the draws.
    """
    base = plan.phases[: plan.baseline]
    mean = plan.normal(values).mean
    block = max(plan.season, round(plan.baseline ** (1 / 3)))
    starts = random.integers(0, plan.baseline, (-(-len(plan.phases) // block), streams))
    drawn = ((starts[:, None] + np.arange(block)[:, None]) % plan.baseline).reshape(-1, streams)[: len(plan.phases)]
    freedom = plan.baseline / max(1, plan.baseline - plan.season)
    left = (values.x - mean[base]) * math.sqrt(freedom)
    return Values(mean[plan.phases][:, None] + left[drawn], values.n[drawn], values.u[drawn])


def alerts_a_month(plan: Plan, z: np.ndarray, k: np.ndarray, make: Callable[[tuple[int, ...]], Monitor]) -> np.ndarray:
    """Return how many alerts open a month in streams, by series, shape (series,)."""
    monitor = make(z.shape[1:])
    opened: np.ndarray = np.sum([monitor.step(window, k).opened for window in z], axis=0)
    return opened.mean(0) / plan.months


def calibrate(plan: Plan, null: Values, detector: Detection, allowed: float, close_after: int) -> Calibration:
    """Return the highest level at which no more than `allowed` alerts open a month in streams without change."""
    z, k = plan.standardised(null)
    free = Monitor(detector, None, 0.0, close_after, z.shape[1:])
    tails = Tails.of(np.stack([free.step(window, k).statistic for window in z]))

    def rate(level: float) -> float:
        return float(
            alerts_a_month(plan, z, k, lambda s: Monitor(detector, tails, level, close_after, s, plan.families)).sum()
        )

    low, high = _LEAST_LEVEL, _MOST_LEVEL
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if rate(middle) <= allowed else (low, middle)
    return Calibration(tails, low, rate(low), z.shape[1])


def replay(
    plan: Plan, values: Values, make: Callable[[tuple[int, ...]], Monitor], random: np.random.Generator
) -> np.ndarray:
    """Return the false alerts a month of each series in a replay of the baseline, shape (series,)."""
    z, k = plan.standardised(replayed_streams(plan, values, _REPLAYS, random))
    return alerts_a_month(plan, z, k, make)
