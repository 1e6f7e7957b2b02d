"""Which guarantees of differential privacy does an attack rule out? Lower limits of epsilon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from peftlab.report.statistics.membership import clopper_pearson

_SHARES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""The family of thresholds: how many examples are guessed to be members, and how many to be none."""
_LARGEST = 50.0
"""An epsilon that nothing rules out."""


@dataclass(frozen=True)
class Limits:
    """Lower limits of epsilon that an attack proves, each with its own risk; 0: it proves nothing."""

    rates: float
    """From the shares of hits and false alarms, see `of_rates`."""
    guesses: float
    """From the number of right guesses in one run, see `of_guesses`."""
    level: float
    """The probability with which each of them holds."""
    tested: int
    """The examples of the half that was tested."""


def lower_limits(scores: np.ndarray, members: np.ndarray, delta: float, level: float = 0.95, seed: int = 0) -> Limits:
    """Return the lower limits of epsilon that scores prove: thresholds are chosen on one half and tested on the other.

    Args:
        scores: more speaks for a member, shape (examples,).
        members: whether an example is one, of the same shape.
        delta: the delta of the guarantee that is tested.
        level: the probability with which each limit holds.
        seed: of the division into halves.
    """
    order = np.random.default_rng(seed).permutation(len(scores))
    chosen, tested = order[: len(order) // 2], order[len(order) // 2 :]
    if not all(0 < members[half].sum() < len(half) for half in (chosen, tested)):
        return Limits(0.0, 0.0, level, len(tested))
    one, inside = scores[tested], members[tested]
    threshold = _threshold(scores[chosen], members[chosen], delta, level)
    hits, alarms = int((one[inside] > threshold).sum()), int((one[~inside] > threshold).sum())
    by_rates = of_rates(hits, int(inside.sum()), alarms, int((~inside).sum()), delta, level)
    high, low = _two_thresholds(scores[chosen], members[chosen], level)
    into, out = one > high, one < low
    right = int((into & inside).sum() + (out & ~inside).sum())
    by_guesses = of_guesses(right, int(into.sum() + out.sum()), len(tested), delta, level)
    return Limits(by_rates, by_guesses, level, len(tested))


def of_rates(hits: int, members: int, alarms: int, others: int, delta: float, level: float = 0.95) -> float:
    """Return the lower limit of epsilon by the shares of hits and of false alarms.

    With (epsilon, delta)-differential privacy, P(hit) <= exp(epsilon) P(alarm) + delta, and the same of the two that
    are missed (Kairouz et al. 2015, theorem 2.1). Both shares are at the end of their interval, each with half of the
    risk (Jagielski et al. 2020, https://arxiv.org/abs/2006.07709, section 4). It takes the examples as independent.
    """
    hit, alarm = clopper_pearson(hits, members, level).low, clopper_pearson(alarms, others, level).high
    ratios = [(hit - delta) / alarm, (1 - alarm - delta) / (1 - hit) if hit < 1 else math.inf]
    return max(0.0, *(math.log(max(ratio, 1.0)) for ratio in ratios))


def of_guesses(right: int, guesses: int, examples: int, delta: float, level: float = 0.95) -> float:
    """Return the lower limit of epsilon by the number of right guesses about the examples of one run.

    Each example was a member or not by a fair coin, and the attack guesses that for some. If training has
    (epsilon, delta)-differential privacy, the right ones are hardly more than a binomial variable of probability
    1 / (1 + exp(-epsilon)) gives (Steinke, Nasr & Jagielski 2023, https://arxiv.org/abs/2305.08846, theorem 5.2).

    Args:
        right: how many guesses are right.
        guesses: how many there are.
        examples: how many could have been guessed.
        delta: the delta of the guarantee that is tested.
        level: the probability with which the limit holds.
    """
    if _p_of_guesses(0.0, right, guesses, examples, delta) > 1 - level:
        return 0.0
    low, high = 0.0, _LARGEST
    while high - low > 1e-4:  # the p value rises with epsilon
        middle = (low + high) / 2
        low, high = (
            (low, middle) if _p_of_guesses(middle, right, guesses, examples, delta) > 1 - level else (middle, high)
        )
    return low


def _p_of_guesses(epsilon: float, right: int, guesses: int, examples: int, delta: float) -> float:
    """Return the probability of so many right guesses, at most, if training has (epsilon, delta)-differential privacy.

    It is P(B >= right) + 2 delta examples max_i P(right > B >= right - i) / i for the binomial variable B.
    """
    from scipy.stats import binom

    if not guesses:
        return 1.0
    chance = 1 / (1 + math.exp(-epsilon))
    p = float(binom.sf(right - 1, guesses, chance))
    if delta and right:
        below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
        p += 2 * delta * examples * float((below / np.arange(1, right + 1)).max())
    return min(p, 1.0)


def _threshold(scores: np.ndarray, members: np.ndarray, delta: float, level: float) -> float:
    """Return the threshold of the family with the largest limit by rates."""
    inside, outside = np.sort(scores[members]), np.sort(scores[~members])
    thresholds = _quantiles(scores, np.asarray([*_SHARES, *(1 - np.asarray(_SHARES))]))

    def limit(threshold: float) -> float:
        hits, alarms = (len(side) - int(np.searchsorted(side, threshold, "right")) for side in (inside, outside))
        return of_rates(hits, len(inside), alarms, len(outside), delta, level)

    return max(thresholds.tolist(), key=limit)


def _two_thresholds(scores: np.ndarray, members: np.ndarray, level: float) -> tuple[float, float]:
    """Return the two thresholds of the family with the largest limit by guesses, without delta."""
    from scipy.special import betaincinv

    inside, outside = np.sort(scores[members]), np.sort(scores[~members])
    highs = np.append(_quantiles(scores, 1 - np.asarray(_SHARES)), math.inf)
    lows = np.append(-math.inf, _quantiles(scores, np.asarray(_SHARES)))
    above = [len(side) - np.searchsorted(side, highs, "right")[:, None] for side in (inside, outside)]
    below = [np.searchsorted(side, lows, "left")[None, :] for side in (inside, outside)]
    right, guesses = above[0] + below[1], above[0] + above[1] + below[0] + below[1]
    possible = (right > 0) & (highs[:, None] >= lows)
    limits = np.where(possible, betaincinv(np.maximum(right, 1), guesses - right + 1, 1 - level), -1.0)
    best = np.unravel_index(limits.argmax(), limits.shape)
    return float(highs[best[0]]), float(lows[best[1]])


def _quantiles(scores: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return np.unique(np.quantile(scores, shares))
