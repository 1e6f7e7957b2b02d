"""Accuracy of examples with several choices, and how it depends on the position of the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from peftlab.scores.confusion import ratio
from peftlab.scores.scorer import Direction, Scorer, Table

MOST = 100
"""The largest number of choices of an example."""


class ChoiceScores(Scorer):
    """The share of examples whose predicted choice is the right one.

    ``guessing`` is the accuracy that is expected of a guess, which depends on the numbers of choices.
    """

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "max"}
    width = 4 * MOST
    """By position: how often it is the gold, the gold and predicted, and predicted; and by number, how many examples
    have so many choices."""
    name = "multiple choice, exact counts"

    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        """Return the scorer."""
        return cls() if name == cls.name else None

    def counts(self, answer: Mapping[str, Any]) -> dict[int, int]:
        """Return the counts of one answer; ``gold`` and ``predicted`` are positions among as many ``choices``.

        Raises:
            ValueError: there is no such choice.
        """
        gold, predicted, number = (answer[key] for key in ("gold", "predicted", "choices"))
        if not isinstance(number, int) or not 2 <= number <= MOST:
            raise ValueError(f"{number!r} choices; an example has 2 to {MOST}")
        for what, position in (("gold", gold), ("predicted", predicted)):
            if not isinstance(position, int) or not 0 <= position < number:
                raise ValueError(f"the {what} choice is {position!r}; there are {number}, counted from 0")
        correct = {MOST + gold: 1} if gold == predicted else {}
        return {gold: 1, 2 * MOST + predicted: 1, 3 * MOST + number - 1: 1} | correct

    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return the ``accuracy``, 0 without an example."""
        return {"accuracy": float(self._accuracy(total, np.float32))}

    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Return the accuracies of many sums of counts."""
        return {"accuracy": self._accuracy(totals, np.float64)}

    def _accuracy(self, totals: np.ndarray, precision: type[np.float32] | type[np.float64]) -> np.ndarray:
        gold, correct, *_ = np.split(totals, 4, axis=-1)
        return ratio(correct.sum(-1), gold.sum(-1), precision)

    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the accuracy, and that of ``guessing``."""
        *_, numbers = np.split(total, 4)
        expected = float((numbers / np.arange(1, MOST + 1)).sum() / max(numbers.sum(), 1))
        return self.scores(total) | {"guessing": float(np.float32(expected))}

    def tables(self, total: np.ndarray) -> dict[str, Table]:
        """Return how often the right choice stands at each position, and how often it is predicted then."""
        return {"positions": (["position", "accuracy", "support", "predicted"], self._rows(total))}

    def _rows(self, total: np.ndarray) -> list[list[Any]]:
        gold, correct, predicted, _ = (part.tolist() for part in np.split(total, 4))
        most = max((n + 1 for n in range(MOST) if gold[n] or predicted[n]), default=0)
        return [[n, correct[n] / gold[n] if gold[n] else 0.0, gold[n], predicted[n]] for n in range(most)]

    def report(self, total: np.ndarray) -> str:
        """Return the accuracy, that of guessing, and the accuracy by position of the right choice."""
        scores = self.details(total)
        rows = [
            f"{n:8d}  {accuracy:8.4f}  {support:7d}  {guess:9d}" for n, accuracy, support, guess in self._rows(total)
        ]
        overall = f"accuracy {scores['accuracy']:.4f}; guessing gives {scores['guessing']:.4f}"
        return "\n".join(["position  accuracy  support  predicted", *rows, overall])
