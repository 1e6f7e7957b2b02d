"""Perplexity and accuracy of masked tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from peftlab.scores.scorer import Direction, Scorer

_STEPS = 2**16
"""Logarithms are kept in steps of one over this: their sums are exact, in whatever order they are added."""
_LARGEST = 80.0
"""The largest mean whose exponential fp32 holds."""


def rounded(log_probability: float) -> float:
    """Return the logarithm of a probability as it is kept and counted; one that is not finite as it is."""
    return round(log_probability * _STEPS) / _STEPS if math.isfinite(log_probability) else log_probability


class MaskedScores(Scorer):
    """Perplexity, the exponential of the mean negative log probability of the masked tokens, and their accuracy.

    Both are over tokens, of all texts together. Perplexities of models with different vocabularies do not compare.
    """

    directions: ClassVar[Mapping[str, Direction]] = {"perplexity": "min", "masked_accuracy": "max"}
    dtype = np.float64
    width = 3
    name = "masked tokens, means over tokens"

    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        """Return the scorer."""
        return cls() if name == cls.name else None

    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return the number of masked tokens, of those predicted rightly, and the sum of their negative logarithms.

        A logarithm that is NaN, as those of a model that diverged are, makes the sum and the perplexity NaN.

        Raises:
            ValueError: ``predicted``, ``masked`` and ``log_probability`` differ in length, or a logarithm is positive
                or no ``float``.
        """
        hidden, predicted, logs = (answer[key] for key in ("masked", "predicted", "log_probability"))
        tokens = [one for one in zip(hidden, predicted, logs, strict=True) if one[0] is not None]
        if any(not isinstance(log, float) or log > 0 for _, _, log in tokens):
            raise ValueError("log_probability has a value that is no logarithm of a probability")
        correct = sum(token == guess for token, guess, _ in tokens)
        return {0: float(len(tokens)), 1: float(correct), 2: -sum(rounded(log) for _, _, log in tokens)}

    @override
    def is_right(self, answer: Mapping[str, Any]) -> bool:
        """Return whether all masked tokens are predicted rightly."""
        counts = self.counts(answer)
        return counts[0] == counts[1]

    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return both scores; without a token, the perplexity is 1 and the accuracy 0."""
        return {name: float(np.float32(value.item())) for name, value in self.batched(total[None]).items()}

    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores of many sums of counts."""
        tokens, correct, negative = np.moveaxis(totals.astype(np.float64), -1, 0)
        number = np.maximum(tokens, 1)
        return {"perplexity": np.exp(np.minimum(negative / number, _LARGEST)), "masked_accuracy": correct / number}

    def report(self, total: np.ndarray) -> str:
        """Return the scores, and how many tokens they are over."""
        scores = self.scores(total)
        bits = math.log2(max(scores["perplexity"], 1))
        return (
            f"perplexity {scores['perplexity']:.4f} ({bits:.3f} bits a token), accuracy of masked tokens "
            f"{scores['masked_accuracy']:.4f}, over {int(total[0]):,} tokens"
        )
