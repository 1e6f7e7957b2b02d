"""Tests of whether two methods differ, each with the smallest p value that it could have given.

Permutation tests assume nothing about distributions, but with few seeds they can never be significant: five pairs of
seeds give at least .0625. They speak of the seeds that were run, or of the clusters that were tested, not of both: for
a verdict that covers both, see `peftlab.report.statistics.comparison`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.report.statistics.crossed import difference
from peftlab.report.statistics.measured import Measured, Score
from peftlab.scores.paired import mcnemar

MOST_PATTERNS = 2**16
"""Up to as many permutations are all tried; of more, some are drawn."""
DRAWS = 9999
_AT_ONCE = 2**22


@dataclass(frozen=True)
class PValue:
    """The two-sided p value of one test."""

    name: str
    p: float
    floor: float
    """The smallest p value that the test could have given with as many values, however far apart they are."""
    exact: bool
    """Whether all permutations were tried, or the distribution is known; otherwise they were drawn."""
    permutations: int | None
    """How many were tried; None: the test has none."""


def sign_flip(differences: Sequence[float], seed: int = 0) -> PValue:
    """Test whether paired differences have mean 0, by flipping their signs (Fisher 1935, section 21).

    Args:
        differences: first minus second, a value for each seed.
        seed: of the draws, if there are more than 16 differences.

    Raises:
        ValueError: there is no difference.
    """
    values = np.asarray(differences, np.float64)
    number = len(values)
    if not number:
        raise ValueError("there is no difference to flip")
    exact = 2**number <= MOST_PATTERNS
    if exact:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=number)))
    else:
        signs = np.random.default_rng(seed).choice((1.0, -1.0), (DRAWS, number))
    return _p_value("sign flip over seeds", signs @ values, float(values.sum()), exact, 2.0 ** (1 - number))


def permutation(first: Sequence[float], second: Sequence[float], seed: int = 0) -> PValue:
    """Test whether two methods' scores have the same mean, by dealing them out anew (Pitman 1937).

    Args:
        first: the scores of a method, one a seed.
        second: those of the other.
        seed: of the draws, if there are more than 65,536 ways to deal them out.

    Raises:
        ValueError: a method has no score.
    """
    pooled, own = np.asarray([*first, *second], np.float64), len(first)
    if not own or own == len(pooled):
        raise ValueError("a method without a score cannot be compared")
    ways = math.comb(len(pooled), own)
    exact = ways <= MOST_PATTERNS
    if exact:
        chosen = np.array(list(itertools.combinations(range(len(pooled)), own)))
    else:
        order = np.random.default_rng(seed).random((DRAWS, len(pooled))).argsort(axis=1)
        chosen = order[:, :own]
    sums = pooled[chosen].sum(axis=1)
    apart = sums / own - (pooled.sum() - sums) / (len(pooled) - own)
    value = float(np.mean(pooled[:own]) - np.mean(pooled[own:]))
    mirrored = 2 if 2 * own == len(pooled) else 1  # with equal numbers, the opposite split is as far apart
    return _p_value("permutation of seeds", apart, value, exact, mirrored / ways)


def approximate_randomisation(
    first: np.ndarray, second: np.ndarray, score: Score, draws: int = DRAWS, seed: int = 0
) -> PValue:
    """Test whether two sets of answers score alike, by swapping them cluster by cluster (Noreen 1989; Yeh 2000).

    Args:
        first: the counts of each cluster, shape (clusters, width).
        second: the counts of the same clusters under the other answers.
        score: the score.
        draws: how many random swaps.
        seed: of the draws.

    Raises:
        ValueError: the two differ in shape, or there is no cluster.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"the counts have the shapes {first.shape} and {second.shape}; expected the same clusters")
    random = np.random.default_rng(seed)
    total, other = first.sum(axis=0), second.sum(axis=0)
    gained = (second - first).astype(np.float64)
    at_once = max(1, _AT_ONCE // len(first))
    apart: list[np.ndarray] = []
    for start in range(0, draws, at_once):
        swapped = random.random((min(at_once, draws - start), len(first))) < 0.5
        moved = (swapped.astype(np.float64) @ gained).astype(first.dtype)
        apart.append(score(total + moved) - score(other - moved))
    value = float((score(total[None]) - score(other[None]))[0])
    return _p_value("approximate randomisation over clusters", np.concatenate(apart), value, exact=False, floor=0.0)


def welch(first: Sequence[float], second: Sequence[float]) -> PValue:
    """Test whether two methods' scores have the same mean, by Student's t with unequal variances (Welch 1947).

    Raises:
        ValueError: a method has fewer than two scores.
    """
    one, other = (Measured.of_scores(name, dict(enumerate(v))) for name, v in (("first", first), ("second", second)))
    p = difference(one, other, paired=False).p()
    if p is None:
        raise ValueError("Welch's test needs at least two scores of each method")
    return PValue("Welch's t over seeds", p, 0.0, exact=True, permutations=None)


def mcnemar_test(first: Sequence[bool], second: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> PValue:
    """Test whether examples flip from right to wrong as often as back (McNemar 1947, exact).

    Args:
        first: whether each answer of a model is right.
        second: the same of the other model, example by example.
        clusters: the cluster of each example; None: each example is one.

    Raises:
        ValueError: the numbers differ, or a cluster has several examples: they flip together, and the test would take
            them for independent.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} answers; expected the same examples")
    if clusters is not None and len(clusters) > len(set(clusters)):
        largest, size = Counter(clusters).most_common(1)[0]
        raise ValueError(
            f"cluster {largest!r} has {size} examples, which McNemar's test would take for independent; use "
            "approximate_randomisation over clusters"
        )
    lost = sum(one and not other for one, other in zip(first, second, strict=True))
    won = sum(other and not one for one, other in zip(first, second, strict=True))
    floor = min(1.0, 2.0 ** (1 - lost - won))
    return PValue("McNemar over examples", mcnemar(lost, won), floor, exact=True, permutations=None)


def _p_value(name: str, permuted: np.ndarray, value: float, exact: bool, floor: float) -> PValue:
    """Return the p value: the share of the permuted values that are as far from 0 as the measured one.

    Drawn permutations count the measured one among them, so that the test keeps its level (Phipson & Smyth 2010). One
    without a value, such as the correlation of equal answers, counts as far; so do all, if the measured one has none.
    """
    number, far = len(permuted), np.abs(permuted)
    tolerance = 1e-9 * (abs(value) + np.fmax.reduce(far))  # equal but for the order of their sums
    extreme = number - int((far < abs(value) - tolerance).sum())
    if exact:
        return PValue(name, extreme / number, min(floor, 1.0), True, number)
    return PValue(name, (extreme + 1) / (number + 1), max(floor, 1 / (number + 1)), False, number)
