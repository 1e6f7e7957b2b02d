"""Scores computed from a confusion matrix."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from peftlab.scores.scorer import Scorer, Table


@dataclass(frozen=True)
class ClassRow:
    """The scores of one class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """Occurrences in the gold."""
    predicted: int
    """Occurrences in the predictions."""

    @classmethod
    def of_counts(cls, name: str, correct: int, predicted: int, gold: int) -> ClassRow:
        """Return the scores in double precision, 0 where undefined, of a class that is so often correct, predicted and
        in the gold.
        """
        return cls(
            name=name,
            precision=correct / predicted if predicted else 0.0,
            recall=correct / gold if gold else 0.0,
            f1=2 * correct / (predicted + gold) if predicted + gold else 0.0,
            support=gold,
            predicted=predicted,
        )


class Confusion(Scorer):
    """Counts pairs of a gold class (row) and a predicted class (column) in a confusion matrix."""

    OUTSIDE: ClassVar[tuple[str, str] | None] = None
    """Names of an extra last row and last column for items in no class; None: there are none."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self._index = {name: index for index, name in enumerate(self.classes)}
        self._size = len(self.classes) + (self.OUTSIDE is not None)

    @property
    def width(self) -> int:
        """Return the number of cells."""
        return self._size**2

    def cell(self, gold: str | None, predicted: str | None) -> int:
        """Return the index of the cell of a gold and a predicted class; None stands for no class.

        Raises:
            ValueError: there is no such class.
        """
        return self._row_of(gold) * self._size + self._row_of(predicted)

    def _row_of(self, name: str | None) -> int:
        if name is None and self.OUTSIDE is not None:
            return len(self.classes)
        if name not in self._index:
            raise ValueError(f"unknown class {name!r}; the classes are {', '.join(self.classes)}")
        return self._index[name]

    @abstractmethod
    def computed(self, totals: np.ndarray, precision: Precision) -> dict[str, np.ndarray]:
        """Return the overall scores of one or many sums of counts, 0 where undefined.

        Args:
            totals: shape (width,) or (number, width).
            precision: the type that they are computed in.
        """

    @override
    def scores(self, total: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in self.computed(total, np.float32).items()}

    @override
    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        return self.computed(totals, np.float64)

    def matrix(self, total: np.ndarray) -> np.ndarray:
        """Return the confusion matrix, shape (rows, columns)."""
        return total.reshape(self._size, self._size)

    def of_classes(self, total: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how often each class is correct, is predicted, and is in the gold.

        Args:
            total: a sum of counts, shape (width,), or several, shape (number, width).

        Returns:
            Three arrays of shape (classes,), or (classes, number).
        """
        matrix, number = np.moveaxis(total, -1, 0).reshape(self._size, self._size, *total.shape[:-1]), len(self.classes)
        diagonal = range(number)
        return matrix[diagonal, diagonal], matrix.sum(0)[:number], matrix.sum(1)[:number]

    def rows(self, total: np.ndarray) -> list[ClassRow]:
        """Return the scores of each class in double precision, 0 where undefined, sorted by name."""
        states = (counts.tolist() for counts in self.of_classes(total))
        return [ClassRow.of_counts(*row) for row in sorted(zip(self.classes, *states, strict=True))]

    def confusion_table(self, total: np.ndarray) -> Table:
        """Return the confusion matrix with the names of its classes, sorted."""
        counts = self.matrix(total).tolist()
        order = sorted(range(len(self.classes)), key=self.classes.__getitem__)
        rows = columns = [self.classes[n] for n in order]
        if self.OUTSIDE is not None:
            rows, columns = [*rows, self.OUTSIDE[0]], [*columns, self.OUTSIDE[1]]
            order.append(len(self.classes))
        cells = [[name, *(counts[row][column] for column in order)] for name, row in zip(rows, order, strict=True)]
        return ["gold \\ predicted", *columns], cells


# The overall scores of a run are computed in single precision and summed in a fixed order, so that a recorded score is
# the same to the last digit on every machine. The order is that of `torch.sum` on a CPU with AVX2, which computed
# earlier records. Below, arrays of classes may have further axes: one sum of counts each.

Precision = type[np.float32] | type[np.float64]


def ratio(numerator: np.ndarray, denominator: np.ndarray, precision: Precision = np.float32) -> np.ndarray:
    """Return the quotient, 0 where the denominator (and so the numerator) is 0."""
    return np.asarray(numerator, precision) / np.maximum(denominator, 1).astype(precision)


def summed(values: np.ndarray) -> np.ndarray:
    """Return the sum of `values`, shape (classes, ...): in eight lanes if there are at least eight, else one."""
    lanes = 8 if len(values) >= 8 else 1
    in_lanes = len(values) // lanes * lanes
    total = np.zeros((), values.dtype)
    for value in (*values[in_lanes:], *_sum_of_rows(values[:in_lanes].reshape(-1, lanes, *values.shape[1:]))):
        total = total + value
    return total


def _sum_of_rows(rows: np.ndarray) -> np.ndarray:
    """Return the sum of `rows`, shape (number, lanes, ...), in four streams, the first of which takes the remainder."""
    in_streams = len(rows) // 4 * 4
    streams = np.zeros((4, *rows.shape[1:]), rows.dtype)
    for group in rows[:in_streams].reshape(-1, 4, *rows.shape[1:]):
        streams = streams + group
    total, *others = streams
    for row in (*rows[in_streams:], *others):
        total = total + row
    return total


def macro(scores: np.ndarray, occurring: np.ndarray) -> np.ndarray:
    """Return the mean of `scores`, shape (classes, ...), over the `occurring` classes."""
    return ratio(summed(scores), occurring.sum(0), _precision_of(scores))


def by_class(
    correct: np.ndarray, predicted: np.ndarray, gold: np.ndarray, precision: Precision = np.float32
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and F1 of each class, shape (classes, ...), 0 where undefined."""
    return (
        ratio(correct, predicted, precision),
        ratio(correct, gold, precision),
        ratio(2 * correct, predicted + gold, precision),
    )


def _precision_of(scores: np.ndarray) -> Precision:
    return np.float32 if scores.dtype == np.float32 else np.float64


def class_table(rows: Sequence[ClassRow], called: str) -> Table:
    """Return the columns and rows of a table for loggers; `called` is the heading of the classes."""
    cells = [list(asdict(row).values()) for row in rows]
    return [called, "precision", "recall", "f1", "support", "predicted"], cells


def report_text(rows: Sequence[ClassRow], totals: Mapping[str, tuple[float, float, float]]) -> str:
    """Return precision, recall, F1 and support of each class, and of `totals` below them, as plain text.

    Args:
        rows: one per class.
        totals: precision, recall and F1 by name.
    """
    support = sum(row.support for row in rows)
    lines: list[tuple[Any, ...]] = [(row.name, row.precision, row.recall, row.f1, row.support) for row in rows]
    lines += [(name, *scores, support) for name, scores in totals.items()]
    width = max(len(name) for name, *_ in lines)
    return "\n".join(
        [f"{'':{width}}  precision  recall      f1  support"]
        + [f"{name:{width}}  {p:9.4f}  {r:6.4f}  {f1:6.4f}  {number:7d}" for name, p, r, f1, number in lines]
    )
