"""The matrix of scores of a stream, R: row k holds the scores, after stage k, on the test split of each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

MEASURES = {
    "accuracy": "mean score on all stages after the last one",
    "learnt": "mean score on each stage right after it was learnt",
    "backward_transfer": "mean gain of the earlier stages since they were learnt; negative: forgetting",
    "forgetting": "mean loss against the best score that an earlier stage ever had",
    "zero_shot": "mean score on each stage just before it is learnt",
}
"""What each measure of a matrix says."""


@dataclass(frozen=True)
class Matrix:
    """Scores after each stage, on each stage.

    Args:
        values: shape (stages, stages), nan where nothing was scored: the head does not know the labels yet.
        mode: which scores are better.
        last: the score on the last stage right after it was learnt, where the last row is of what came afterwards, such
            as a merged model; None: it is in that row.
    """

    values: np.ndarray
    mode: Literal["max", "min"] = "max"
    last: float | None = None

    def __post_init__(self) -> None:
        """Check the shape."""
        if self.values.ndim != 2 or self.values.shape[0] != self.values.shape[1] or len(self.values) < 2:
            raise ValueError(f"a matrix of scores is square, of two or more stages, not {self.values.shape}")

    @property
    def accuracy(self) -> float:
        """The mean of the last row (Lopez-Paz & Ranzato 2017, section 3, ACC)."""
        return float(self.values[-1].mean())

    @property
    def learnt(self) -> float:
        """The mean of the diagonal: how well each stage was learnt, before anything could be forgotten."""
        learnt = np.diagonal(self.values).copy()
        if self.last is not None:
            learnt[-1] = self.last
        return float(learnt.mean())

    @property
    def backward_transfer(self) -> float:
        """The mean of the last row minus the diagonal, without the last stage (the same, BWT).

        With the other sign if less is better, so that it is negative where the model forgets.
        """
        change = float((self.values[-1] - np.diagonal(self.values))[:-1].mean())
        return -change if self.mode == "min" else change

    @property
    def forgetting(self) -> float:
        """The mean distance of the last row to the best of the rows before (Chaudhry et al. 2018, section 4.1).

        Rows from before a stage was learnt count too where they have a score.
        """
        earlier, last = self.values[:-1, :-1], self.values[-1, :-1]
        if self.mode == "min":
            return float((last - np.nanmin(earlier, axis=0)).mean())
        return float((np.nanmax(earlier, axis=0) - last).mean())

    @property
    def zero_shot(self) -> float:
        """The mean of the scores right above the diagonal: what a stage profits from the ones before; nan: unknown."""
        return float(np.diagonal(self.values, 1).mean())

    def measures(self) -> dict[str, float | None]:
        """Return all measures by name, those of `MEASURES`; None where one is unknown."""
        return {name: None if np.isnan(value := getattr(self, name)) else value for name in MEASURES}

    def rows(self) -> list[list[float | None]]:
        """Return the scores as JSON values."""
        return [[None if np.isnan(value) else float(value) for value in row] for row in self.values]


def matrix_of(rows: Sequence[Sequence[Any]], mode: Literal["max", "min"] = "max") -> Matrix:
    """Return the matrix of rows of scores, None where there is none."""
    return Matrix(np.array([[np.nan if value is None else value for value in row] for row in rows], float), mode)
