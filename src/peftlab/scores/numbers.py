"""Correlation and error of answers that are numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from peftlab.scores.scorer import Direction, Scorer


class NumberScores(Scorer):
    """Scores of a regression: Pearson's correlation, root mean square error and mean absolute error.

    All three follow from sums over the examples. Spearman's rank correlation does not: it is computed once from all
    answers of a split, stands beside the others in the record, and is no score to select by or to resample.

    A correlation is NaN where gold or predictions are constant. All scores are NaN where a prediction is not finite, as
    those of a model that diverged are not.
    """

    directions: ClassVar[Mapping[str, Direction]] = {"pearson": "max", "rmse": "min", "mae": "min"}
    dtype: ClassVar[type[np.number[Any]]] = np.float64
    columns: ClassVar[int] = 2

    @override
    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        scorer = cls()
        return scorer if scorer.name == name else None

    @property
    def name(self) -> str:
        """Return how the scores are computed."""
        return "numbers, on the scale of the data"

    @property
    def width(self) -> int:
        """Return the number of sums: n, x, y, x², y², xy, |x - y|, (x - y)², for gold x and prediction y."""
        return 8

    @override
    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return the summands of an answer.

        Raises:
            ValueError: gold is no finite number, or the prediction is no number.
        """
        x, y = self.values(answer)
        return dict(enumerate((1.0, x, y, x * x, y * y, x * y, abs(x - y), (x - y) ** 2)))

    @override
    def values(self, answer: Mapping[str, Any]) -> tuple[float, float]:
        """Return gold and prediction; NaN for a prediction that is not finite."""
        gold, predicted = answer["gold"], answer["predicted"]
        for value in (gold, predicted):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{value!r} is no finite number")
        if not math.isfinite(gold):
            raise ValueError(f"{gold!r} is no finite number")
        return float(gold), float(predicted) if math.isfinite(predicted) else math.nan

    @override
    def scores(self, total: np.ndarray) -> dict[str, float]:
        return {name: float(np.float32(values[0])) for name, values in self.batched(total[None]).items()}

    @override
    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        n, x, y, xx, yy, xy, absolute, square = np.asarray(totals, np.float64).T
        at_least_1 = np.maximum(n, 1)
        deviations = _deviation(n, x, xx) * _deviation(n, y, yy)
        defined = deviations > 0
        correlation = np.full(len(totals), math.nan)
        np.divide(n * xy - x * y, deviations, out=correlation, where=defined)
        return {
            "pearson": np.clip(correlation, -1, 1),
            "rmse": np.sqrt(square / at_least_1),
            "mae": absolute / at_least_1,
        }

    @override
    def of_all(self, values: np.ndarray) -> dict[str, float]:
        """Return Spearman's rank correlation, ties sharing the mean of their ranks."""
        return {"spearman": spearman(values[:, 0], values[:, 1])}

    @override
    def report(self, total: np.ndarray) -> str:
        """Return the scores, and the means and standard deviations of gold and predictions."""
        n, x, y, xx, yy = (float(one) for one in total[:5])
        lines = [super().report(total)]
        for name, one, square in (("gold", x, xx), ("predicted", y, yy)):
            mean = one / max(n, 1)
            spread = math.sqrt(max(square / max(n, 1) - mean**2, 0.0))
            lines.append(f"{name}: mean {mean:.4f}, standard deviation {spread:.4f}")
        return "\n".join(lines)


def spearman(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Return Spearman's rank correlation of two arrays of shape (examples,); NaN if one is constant or has a NaN.

    Its sums are of whole numbers, so that the order of the examples changes no digit.
    """
    if np.isnan(gold).any() or np.isnan(predicted).any():
        return math.nan
    one, other = _ranks(gold), _ranks(predicted)
    deviations = math.sqrt(_product(one, one)) * math.sqrt(_product(other, other))
    return float(np.float32(_product(one, other) / deviations)) if deviations else math.nan


def _product(one: np.ndarray, other: np.ndarray) -> int:
    """Return the inner product of whole numbers; of a few million ranks, it is more than 64 bits hold."""
    largest = max(1, int(np.abs(one).max(initial=0)) * int(np.abs(other).max(initial=0)))
    step = max(1, 2**62 // largest)
    return sum(int(one[n : n + step] @ other[n : n + step]) for n in range(0, len(one), step))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return twice the ranks less their mean, which are whole numbers."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (2 * last - counts + 1 - (len(values) + 1)).astype(np.int64)[place]


def _deviation(n: np.ndarray, x: np.ndarray, xx: np.ndarray) -> np.ndarray:
    """Return n times the standard deviation; 0 where it is no more than what rounding leaves of equal numbers."""
    variance = n * xx - x * x
    return np.sqrt(np.where(variance > 1e-12 * n * xx, variance, 0.0))
