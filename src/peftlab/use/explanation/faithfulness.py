"""Does an attribution say what the model does? The area over the perturbation curve of the order that it gives.

Words are taken away one by one, in the order of their values, and the logit is watched (Samek et al. 2017). The mean
loss depends on the model as much as on the order, so it is normalised by the least and the largest that any order of
the same words has: NAOPC (Edin et al. 2024). Without that it may not be compared across models at all, nor is it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from peftlab.use.explanation.shapley import EXACT, all_sets
from peftlab.use.explanation.subject import Subject

SAMPLED, FREE = 20, 200
"""Random orders: of many words, and of up to `EXACT`, whose sets are all known, so that an order costs no pass."""


MOST_STEPS = 20
"""Steps in which the words are taken away: of a longer text, several words at each."""


@dataclass(frozen=True)
class Limits:
    """The least and the largest area that an order of a subject's words has."""

    low: float
    high: float
    exact: bool
    """Whether all orders were compared; else a beam search found the two, and a better order may exist."""

    def share(self, area: float) -> float:
        """Return where an area lies between the limits: 0 at the lower one, 1 at the upper one."""
        return (area - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Faithfulness:
    """How well an order of the words fits the model; each a share between the limits, see `Limits.share`."""

    comprehensiveness: float
    """Of the order with the largest value first. More is better: without the words that count, the logit falls."""
    sufficiency: float
    """Of the reverse order. Less is better: with only the words that count, the logit stays."""

    @property
    def margin(self) -> float:
        """Comprehensiveness less sufficiency: 0 in the mean over random orders, at most 1."""
        return self.comprehensiveness - self.sufficiency


def area(subject: Subject, order: np.ndarray) -> float:
    """Return the mean loss of the logit after each step of taking the words away in this order, see `steps_of`.

    Args:
        subject: the subject; its baseline stands in the place of the words.
        order: the words, the first to go first, shape (words,).
    """
    gone = np.argsort(order) < steps_of(len(order))[:, None]
    return float((subject.full - subject.value(~gone)).mean())


def steps_of(words: int) -> np.ndarray:
    """Return how many words are gone after each step: one more each time, or several more in at most `MOST_STEPS`."""
    return np.linspace(0, words, min(words, MOST_STEPS) + 1).round().astype(int)[1:]


def limits(subject: Subject, width: int = 3) -> Limits:
    """Return the least and the largest area over all orders of the words.

    Up to eight words all sets are computed, and dynamic programming finds the best of the factorially many orders: the
    area of an order is a sum over the sets that it passes through. For more words a beam search follows the `width`
    best sets at each step. Where steps are of several words, it takes those that count most one by one, and follows
    one set.
    """
    search: Callable[[Subject, int], float] = _exact if len(subject.words) <= EXACT else _Beam(width)
    return Limits(-search(subject, -1), search(subject, 1), len(subject.words) <= EXACT)


def _exact(subject: Subject, sign: int) -> float:
    """Return the largest area times `sign`."""
    number = len(subject.words)
    gone = all_sets(number)
    losses = sign * (subject.full - subject.value(~gone))
    best = np.zeros(2**number)
    for one in range(1, 2**number):
        best[one] = losses[one] + max(best[one ^ 1 << word] for word in range(number) if one >> word & 1)
    return float(best[-1] / number)


@dataclass(frozen=True)
class _Beam:
    width: int

    def __call__(self, subject: Subject, sign: int) -> float:
        steps = steps_of(len(subject.words))
        beam = [(0.0, np.zeros(len(subject.words), dtype=bool))]
        for size in np.diff(steps, prepend=0):
            reached: dict[bytes, tuple[float, np.ndarray]] = {}
            for total, gone in beam:
                for after in self._next(subject, gone, size, sign):
                    if (key := after.tobytes()) not in reached or reached[key][0] < total:
                        reached[key] = (total, after)
            losses = sign * (subject.full - subject.value(~np.stack([after for _, after in reached.values()])))
            scored = [(total + loss, after) for (total, after), loss in zip(reached.values(), losses, strict=True)]
            beam = sorted(scored, key=lambda one: -one[0])[: self.width]
        return float(beam[0][0]) / len(steps)

    def _next(self, subject: Subject, gone: np.ndarray, size: int, sign: int) -> np.ndarray:
        """Return the sets that may follow, shape (sets, words)."""
        free = np.flatnonzero(~gone)
        each = np.repeat(gone[None], len(free), axis=0)
        each[np.arange(len(free)), free] = True
        if size == 1:
            return each
        losses = sign * (subject.full - subject.value(~each))
        after = gone.copy()
        after[free[np.argsort(-losses, kind="stable")[:size]]] = True
        return after[None]


def faithfulness(
    subject: Subject, attributions: dict[str, np.ndarray], seed: int = 0
) -> tuple[dict[str, Faithfulness], list[Faithfulness], Limits] | None:
    """Return the faithfulness of each attribution, that of random orders, and the limits.

    Random orders come with their reverses, which needs no more passes: the mean of their margins is 0, whatever the
    seed. The limits are widened to what these orders reach, where a beam search found less.

    Args:
        subject: the subject.
        attributions: the value of each word, by explainer.
        seed: of the random orders, and of the order of equal values.

    Returns:
        None: all orders of the words are equal, such as those of one word, and nothing can be said.
    """
    random = np.random.default_rng(seed)
    number = len(subject.words)
    drawn = [random.permutation(number) for _ in range((FREE if number <= EXACT else SAMPLED) // 2)]
    # equal values in a random order, not in that of the text
    ranked = {name: np.lexsort((random.permutation(number), -values)) for name, values in attributions.items()}
    areas = {name: (area(subject, order), area(subject, order[::-1])) for name, order in ranked.items()}
    of_drawn = [(area(subject, order), area(subject, order[::-1])) for order in drawn]
    of_drawn += [(last, first) for first, last in of_drawn]
    within, reached = limits(subject), [one for pair in (*areas.values(), *of_drawn) for one in pair]
    within = Limits(min(within.low, *reached), max(within.high, *reached), within.exact)
    if within.high - within.low <= 1e-6 * max(1.0, abs(within.high)):
        return None
    made = {name: Faithfulness(within.share(first), within.share(last)) for name, (first, last) in areas.items()}
    return made, [Faithfulness(within.share(first), within.share(last)) for first, last in of_drawn], within
