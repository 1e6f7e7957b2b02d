"""What a comparison could have shown: power, minimum detectable effect, and the seeds or clusters that it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from peftlab.report.statistics.crossed import Components

MOST = 10**6
"""More seeds or clusters than anybody measures."""


@dataclass(frozen=True)
class Needed:
    """How many seeds, or how many clusters, show an effect, with the other number as it is."""

    effect: float
    power: float
    seeds: int | None
    """None: no number of seeds suffices, as the test set alone is too uncertain."""
    clusters: int | None
    """None: no number of clusters suffices, as the seeds alone vary too much."""


def power(effect: float, se: float, df: float, level: float = 0.05) -> float:
    """Return the probability that the two-sided t test finds an effect (Cohen 1988, chapter 2; noncentral t).

    Args:
        effect: the true difference.
        se: the standard error of its estimate; not 0.
        df: the degrees of freedom of that.
        level: the probability of a false claim where there is no effect.
    """
    from scipy.special import nctdtr, stdtrit

    critical, shift = float(stdtrit(df, 1 - level / 2)), abs(effect) / se
    wrong = float(nctdtr(df, shift, -critical))  # not a number in scipy where it is far below any rounding
    return 1 - float(nctdtr(df, shift, critical)) + (0.0 if math.isnan(wrong) else wrong)


def minimum_detectable_effect(se: float, df: float, level: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true difference that the two-sided t test finds with probability `power`.

    It is about (t + t')·se, with quantiles of Student's t at 1 - level/2 and `power` (Bloom 1995); the noncentral t
    makes it exact. It is 0 where nothing varies.

    Args:
        se: the standard error of the difference.
        df: the degrees of freedom of that.
        level: the probability of a false claim where there is no effect.
        power: the probability to find the effect.
    """
    if not se:
        return 0.0
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    upper = 2 * float(stdtrit(df, 1 - level / 2) + stdtrit(df, power)) + 2
    excess = _excess(df, level, power)
    return se * float(brentq(excess, 0.0, upper, xtol=1e-13, rtol=1e-14))


def needed(
    components: Components, effect: float, level: float = 0.05, power: float = 0.8, paired: bool = False
) -> Needed:
    """Return the seeds (for each method), and the clusters, from which on an effect is found with probability `power`.

    Args:
        components: the variances of the difference, see
            `peftlab.report.statistics.crossed.components_of_difference`.
        effect: the true difference that matters; not 0.
        level: the probability of a false claim where there is no effect.
        power: the probability to find the effect.
        paired: whether seeds are paired.

    Raises:
        ValueError: the effect is 0.
    """
    if not effect:
        raise ValueError(
            "an effect of 0 cannot be shown, however many runs there are; state the difference that matters"
        )

    def suffices(seeds: int, clusters: int) -> bool:
        detectable = minimum_detectable_effect(*design(components, seeds, clusters, paired), level, power)
        return detectable <= abs(effect)

    return Needed(
        effect=effect,
        power=power,
        seeds=_smallest(lambda seeds: suffices(seeds, components.clusters), 2),
        clusters=_smallest(lambda clusters: suffices(components.seeds, clusters), 2),
    )


def design(components: Components, seeds: int, clusters: int, paired: bool) -> tuple[float, float]:
    """Return the standard error of a comparison, and the degrees of freedom with which to predict its power.

    Satterthwaite's degrees of freedom, estimated from few seeds, are fewer than those of the true variances: here they
    are the ratio of the expected values of their numerator and denominator, for which E[s⁴] = σ⁴(1 + 2/df).

    Args:
        components: the variances of the difference.
        seeds: at least 2, of each method.
        clusters: at least 2.
        paired: whether seeds are paired.
    """
    by_seed = components.seed / seeds + components.rest / (seeds * clusters)
    methods = 1 if paired else 2
    parts = [(by_seed / methods, seeds - 1)] * methods + [(components.cluster / clusters, clusters - 1)]
    variance = sum(part for part, _ in parts)
    square = variance**2 + sum(2 * part**2 / df for part, df in parts)
    spread = sum(part**2 * (1 + 2 / df) / df for part, df in parts)
    return math.sqrt(variance), square / spread if spread else float(seeds - 1)


def _excess(df: float, level: float, aim: float) -> Callable[[float], float]:
    return lambda shift: power(shift, 1.0, df, level) - aim


def _smallest(suffices: Callable[[int], bool], least: int) -> int | None:
    """Return the smallest number from `least` on that suffices, given that larger ones do too; None beyond `MOST`."""
    if suffices(least):
        return least
    if not suffices(MOST):
        return None
    low, high = least, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high
