"""The interface of a scorer: it counts per example, and every score follows from the sum of the counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

SCORED = ("validation", "test")
"""The splits that a run is scored on."""

Direction = Literal["max", "min"]
"""Whether a higher score is better, or a lower one."""

Table = tuple[list[str], list[list[Any]]]
"""The names of the columns, and the rows."""


class Scorer(ABC):
    """Scores the answers of a task.

    Counts add up over batches, processes and any subset of examples, so that the scores of a split are exact however it
    is divided, and a bootstrap resamples examples by adding their counts again. A score such as F1 is not linear in
    them: a mean of batch F1s is a different number, which changes with the batch size.

    A scorer needs only NumPy, so that predictions can be scored where torch is not installed.
    """

    directions: ClassVar[Mapping[str, Direction]]
    """The names of the overall scores, and which direction of each is better."""
    dtype: ClassVar[type[np.number[Any]]] = np.int64
    """Type of the counts; ``float64`` for a scorer that sums measures, such as squared errors."""
    columns: ClassVar[int] = 0
    """How many numbers `values` returns of each answer; 0: all scores follow from the counts."""

    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        """Return the scorer whose `name` this is, for answers with the `labels` of a record; None if it is another's.

        A scorer that does not implement it cannot score kept predictions without the task: reports then lack the
        uncertainty that comes from the test split.
        """
        return None

    @property
    @abstractmethod
    def name(self) -> str:
        """Return the name of the scorer with its options; a score means nothing without it."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Return the number of counts."""

    @abstractmethod
    def counts(self, answer: Mapping[str, Any]) -> Mapping[int, int | float]:
        """Return the counts of one answer by index, from 0 to `width` - 1; those left out are 0.

        Args:
            answer: an answer that `Task.answers` returns; scorers read ``predicted`` and ``gold``.

        Raises:
            ValueError: the answer cannot be scored.
        """

    def is_right(self, answer: Mapping[str, Any]) -> bool:
        """Return whether an answer is scored as its gold would be: a classifier's label, or all entities of a sentence.

        A scorer whose counts do not follow from what is ``predicted`` overrides this: it would find all answers right.

        Raises:
            ValueError: the answer cannot be scored.
        """
        return dict(self.counts(answer)) == dict(self.counts({**answer, "predicted": answer["gold"]}))

    def total(self, answers: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """Return the sum of the counts of `answers`, shape (width,).

        Raises:
            ValueError: an answer cannot be scored.
        """
        total = np.zeros(self.width, self.dtype)
        for answer in answers:
            for place, count in self.counts(answer).items():
                total[place] += count
        return total

    @abstractmethod
    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return the overall scores of a sum of counts, in the order of `directions`."""

    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Return the overall scores of many sums of counts at once, as a bootstrap needs them.

        Args:
            totals: shape (number, width).

        Returns:
            Each score by name, float64 of shape (number,): `scores` up to rounding. A scorer that computes them without
            a loop overrides this.
        """
        rows = [self.scores(total) for total in totals]
        return {name: np.array([row[name] for row in rows], np.float64) for name in self.directions}

    def values(self, answer: Mapping[str, Any]) -> Sequence[float]:
        """Return the numbers of an answer that `of_all` needs.

        Raises:
            ValueError: the answer cannot be scored.
        """
        return ()

    def of_all(self, values: np.ndarray) -> dict[str, float]:
        """Return the scores that follow from no sum, such as a rank correlation: from all answers of a split.

        They stand in the record of a run. Nothing can be selected by them, and no bootstrap resamples them. They do not
        depend on the order of the answers.

        Args:
            values: what `values` returns of each answer, float64 of shape (examples, columns).
        """
        return {}

    def measured(self, answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Return all scores of some answers, with the finer ones, and those of `of_all`.

        Raises:
            ValueError: an answer cannot be scored.
        """
        values = [self.values(answer) for answer in answers] if self.columns else []
        whole = self.of_all(np.asarray(values, np.float64).reshape(-1, self.columns)) if self.columns else {}
        return self.details(self.total(answers)) | whole

    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the overall scores and finer ones, such as ``entity_f1/PER``."""
        return self.scores(total)

    def tables(self, total: np.ndarray) -> dict[str, Table]:
        """Return the tables for loggers by name, such as scores by class and a confusion matrix."""
        return {}

    def report(self, total: np.ndarray) -> str:
        """Return the scores as a plain-text table."""
        scores = self.scores(total)
        width = max(map(len, scores))
        return "\n".join(f"{name:{width}}  {value:.4f}" for name, value in scores.items())


def brief(name: str) -> str:
    """Return the `name` of a scorer without its details, which follow a colon."""
    return name.partition(": ")[0]
