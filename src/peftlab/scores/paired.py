"""Two sets of answers to the same examples: the difference of their scores, and the examples that flip. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftlab.scores.resampling import resampled_totals
from peftlab.scores.scorer import Scorer


@dataclass(frozen=True)
class Difference:
    """The difference of a score between two sets of answers, with a confidence interval."""

    value: float
    low: float | None
    """None, as is the other end, of a single example, or where resamples have a score that is no number."""
    high: float | None


def counts_of(scorer: Scorer, answers: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the counts of each answer, shape (answers, width).

    Raises:
        ValueError: an answer cannot be scored.
    """
    counts = np.zeros((len(answers), scorer.width), scorer.dtype)
    for row, answer in zip(counts, answers, strict=True):
        for place, count in scorer.counts(answer).items():
            row[place] += count
    return counts


def difference(
    scores: Callable[[np.ndarray], float],
    first: np.ndarray,
    second: np.ndarray,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Return the score of `first` minus that of `second`, with the percentile interval of a paired bootstrap.

    Every resample draws examples with replacement and takes the same ones from both sets, so that what makes an example
    hard cancels out (Efron & Tibshirani 1993, chapter 13; Berg-Kirkpatrick et al. 2012).

    Args:
        scores: the score of a sum of counts, shape (width,).
        first: the counts of each example, shape (examples, width); at least one example.
        second: the counts of the same examples under the other answers.
        resamples: number of resamples.
        level: probability of the interval.
        seed: of the resampling.

    Raises:
        ValueError: the two sets differ in shape, or there is no example.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"the counts have the shapes {first.shape} and {second.shape}; expected the same examples")
    width = first.shape[1]
    differences = [
        scores(total[:width]) - scores(total[width:])
        for totals in resampled_totals(np.concatenate([first, second], axis=1), resamples, seed)
        for total in totals
    ]
    value = scores(first.sum(axis=0)) - scores(second.sum(axis=0))
    if len(first) == 1 or not np.isfinite(differences).all():
        return Difference(value, None, None)
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return Difference(value, float(low), float(high))


def mcnemar(broken: int, mended: int) -> float:
    """Return the two-sided p value of McNemar's exact test: are flips as likely in one direction as in the other?

    It is twice the smaller tail of a binomial distribution with ``broken + mended`` trials of probability 1/2, at most
    1 (McNemar 1947; exact, without a continuity correction).

    Args:
        broken: examples answered rightly before and wrongly after.
        mended: examples answered wrongly before and rightly after.
    """
    trials, fewer = broken + mended, min(broken, mended)
    ways, tail = 1, 0
    for successes in range(fewer + 1):
        tail += ways
        ways = ways * (trials - successes) // (successes + 1)
    return min(1.0, 2 * tail / 2**trials)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number by the step-down method of Holm (1979), in the order given.

    With them, the probability of any false claim is at most the level, however the tests depend on each other.
    """
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p values adjusted by `holm` for how many of them are known; what is not stays None."""
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]
