"""Scores that follow from how often each class is taken for which: exact over batches and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


@dataclass(frozen=True)
class ClassRow:
    """The scores of one class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """How often the class is in the gold."""
    predicted: int
    """How often it is predicted."""


class Confusion(Metric):  # type: ignore[misc]  # mypy does not follow torchmetrics
    """Counts of gold classes (rows) and predicted classes (columns), the state `confusion`.

    Counts add up over batches and processes to those of the whole set. F1 is not linear in them: a mean of batch F1s is
    another number, which changes with the batch size.
    """

    OUTSIDE: ClassVar[tuple[str, str] | None] = None
    """What the last row and the last column are called where they hold what is in no class; None: there are none."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        self._index = {name: index for index, name in enumerate(self.classes)}
        size = len(self.classes) + (self.OUTSIDE is not None)
        self.add_state("confusion", torch.zeros(size, size, dtype=torch.long), dist_reduce_fx="sum")

    @property
    def correct(self) -> Tensor:
        """How often each class is found, shape ``(classes,)``."""
        return self.confusion.diagonal()[: len(self.classes)]

    @property
    def predicted(self) -> Tensor:
        """How often each class is predicted, shape ``(classes,)``."""
        return self.confusion.sum(0)[: len(self.classes)]

    @property
    def gold(self) -> Tensor:
        """How often each class is in the gold, shape ``(classes,)``."""
        return self.confusion.sum(1)[: len(self.classes)]

    def by_class(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return precision, recall and F1 of each class, shape ``(classes,)``, 0 where undefined."""
        both = self.predicted + self.gold
        return ratio(self.correct, self.predicted), ratio(self.correct, self.gold), ratio(2 * self.correct, both)

    def macro(self, scores: Tensor) -> Tensor:
        """Return the mean of `scores`, shape ``(classes,)``, over the classes that are in the gold or predicted."""
        return scores.sum() / ((self.predicted + self.gold) > 0).sum().clamp(min=1)

    def table(self) -> list[ClassRow]:
        """Return one row a class, sorted by name, of all processes together; all have to call it, as `compute`."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            states = self.correct.tolist(), self.predicted.tolist(), self.gold.tolist()
        return [
            ClassRow(
                name=name,
                precision=correct / predicted if predicted else 0.0,
                recall=correct / gold if gold else 0.0,
                f1=2 * correct / (predicted + gold) if predicted + gold else 0.0,
                support=gold,
                predicted=predicted,
            )
            for name, correct, predicted, gold in sorted(zip(self.classes, *states, strict=True))
        ]

    def confusion_table(self) -> tuple[list[str], list[list[Any]]]:
        """Return `confusion` of all processes together with its names, sorted: the columns, and the rows.

        All processes have to call it, as `compute`.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            counts = self.confusion.tolist()
        order = sorted(range(len(self.classes)), key=self.classes.__getitem__)
        rows = columns = [self.classes[n] for n in order]
        if self.OUTSIDE is not None:
            rows, columns = [*rows, self.OUTSIDE[0]], [*columns, self.OUTSIDE[1]]
            order.append(len(self.classes))
        cells = [[name, *(counts[row][column] for column in order)] for name, row in zip(rows, order, strict=True)]
        return ["gold \\ predicted", *columns], cells

    def index_of(self, name: str) -> int:
        """Return the index of a class.

        Raises:
            ValueError: there is no such class.
        """
        if name not in self._index:
            raise ValueError(f"unknown class {name!r}; the classes are {', '.join(self.classes)}")
        return self._index[name]

    def count(self, counts: Sequence[Sequence[int]]) -> None:
        """Add `counts`, of the shape of `confusion`, in one transfer to the device."""
        self.confusion = self.confusion + torch.tensor(counts, dtype=torch.long, device=self.confusion.device)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient in float32, 0 where the denominator is 0: the numerator then is, too."""
    # float32 by name: dividing integers gives the default dtype, which is bfloat16 inside a bf16-true step, and float64
    # does not exist on MPS
    return numerator.to(torch.float32) / denominator.clamp(min=1)


def class_table(rows: Sequence[ClassRow], called: str) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and rows of a table for loggers; `called` is what a class is called."""
    cells = [list(asdict(row).values()) for row in rows]
    return [called, "precision", "recall", "f1", "support", "predicted"], cells


def report_text(rows: Sequence[ClassRow], totals: Mapping[str, tuple[float, float, float]]) -> str:
    """Return precision, recall, F1 and support of each class, and below them of all classes, as plain text.

    Args:
        rows: of the classes.
        totals: by name, precision, recall and F1.
    """
    support = sum(row.support for row in rows)
    lines = [(row.name, row.precision, row.recall, row.f1, row.support) for row in rows]
    lines += [(name, *scores, support) for name, scores in totals.items()]
    width = max(len(name) for name, *_ in lines)
    return "\n".join(
        [f"{'':{width}}  precision  recall      f1  support"]
        + [f"{name:{width}}  {p:9.4f}  {r:6.4f}  {f1:6.4f}  {number:7d}" for name, p, r, f1, number in lines]
    )
