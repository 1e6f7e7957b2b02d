"""How often a model prefers the better of two answers, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from peftlab.scores.masked_scores import rounded
from peftlab.scores.scorer import Direction, Scorer

CHOSEN, REJECTED = "chosen", "rejected"
"""The two answers of a pair, as they are called in data, answers and scores."""


class PreferenceScores(Scorer):
    """Accuracy and margin of the implicit rewards of two answers (Rafailov et al. 2023, section 4).

    The reward of an answer is beta times the logarithm of how much more probable it is to the model than to the
    reference, the margin that of the chosen answer less that of the rejected one. Equal rewards count as half right, so
    that a model which is still its own reference has the accuracy of guessing. Pairs without rewards do not count.
    """

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "max", "margin": "max"}
    dtype = np.float64
    width = 4
    """Pairs, pairs that are ordered rightly, and the sums of the two rewards."""
    name = "pairs of answers, implicit rewards"

    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        """Return the scorer."""
        return cls() if name == cls.name else None

    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return the counts of a pair by its ``rewards``; a reward that is NaN makes its mean and the margin NaN.

        Raises:
            ValueError: ``rewards`` is neither None nor two numbers.
        """
        rewards = answer["rewards"]
        if rewards is None:
            return {}
        if not isinstance(rewards, Mapping) or not all(isinstance(rewards.get(k), float) for k in (CHOSEN, REJECTED)):
            raise ValueError("rewards has no number for each of the two answers")
        chosen, rejected = (rounded(rewards[name]) for name in (CHOSEN, REJECTED))
        return {0: 1.0, 1: right(chosen - rejected), 2: chosen, 3: rejected}

    @override
    def is_right(self, answer: Mapping[str, Any]) -> bool:
        """Return whether the chosen answer has the larger reward."""
        return self.counts(answer).get(1) == 1.0

    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return both scores, 0 without a pair."""
        return {name: float(np.float32(value.item())) for name, value in self.batched(total[None]).items()}

    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores of many sums of counts."""
        pairs, correct, chosen, rejected = np.moveaxis(totals.astype(np.float64), -1, 0)
        number = np.maximum(pairs, 1)
        return {"accuracy": correct / number, "margin": (chosen - rejected) / number}

    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the scores, and the mean ``chosen_reward`` and ``rejected_reward``."""
        number = max(total[0], 1)
        rewards = {f"{name}_reward": float(np.float32(total[n] / number)) for name, n in ((CHOSEN, 2), (REJECTED, 3))}
        return self.scores(total) | rewards

    def report(self, total: np.ndarray) -> str:
        """Return the scores, and how many pairs they are over."""
        scores = self.details(total)
        return (
            f"the chosen answer is preferred in {100 * scores['accuracy']:.2f} % of {int(total[0]):,} pairs; rewards: "
            f"chosen {scores['chosen_reward']:+.4f}, rejected {scores['rejected_reward']:+.4f}, margin "
            f"{scores['margin']:+.4f}"
        )


def right(margin: float) -> float:
    """Return how right the order of two rewards is: 1, 0, or a half where they are equal or no numbers."""
    return float(margin > 0) if margin and not math.isnan(margin) else 0.5
