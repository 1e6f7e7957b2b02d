"""Shares of labels behind counts of predicted ones, with their intervals, and how far they have moved."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from peftlab.opinion.correction import drawn_shares, project
from peftlab.opinion.questions import Question
from peftlab.opinion.series import Series, Values
from peftlab.opinion.windows import Window


@dataclass(frozen=True)
class Size:
    """A share now and before, and the difference with its interval."""

    share: float
    before: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """The change."""
        return self.share - self.before


class Shares:
    """Estimates shares of groups of series from counts of predicted labels, with intervals.

    Args:
        questions: of the watch.
        adjust: whether shares are corrected by the confusion of the questions.
        level: the probability that an interval covers.
        seed: of the draws.
    """

    def __init__(self, questions: Sequence[Question], adjust: bool, level: float, seed: int) -> None:
        self._questions, self._adjust, self._seed = questions, adjust, seed
        self._tails = ((1 - level) / 2, (1 + level) / 2)
        self._inverses: dict[int, np.ndarray | None] = {}

    def predicted(self, cell: tuple[int, ...], windows: Sequence[Window]) -> np.ndarray:
        """Return how often each label of a series' question was predicted in windows, within its other label."""
        counts = np.zeros(len(self._questions[cell[0]].labels))
        for window in windows:
            for own, count in window.cells.items():
                if len(cell) == 2 or own[cell[2]] == cell[3]:
                    counts[own[cell[0]]] += count
        return counts

    def estimated(self, question: int, counts: np.ndarray) -> np.ndarray:
        """Return the shares behind counts, shape (..., labels), on the simplex; NaN without any."""
        total = counts.sum(-1, keepdims=True)
        shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
        confusion = self._questions[question].confusion if self._adjust else None
        if confusion is None:
            return shares
        return np.where(np.isnan(shares), np.nan, project(np.nan_to_num(shares) @ confusion.inverse.T))

    def draws(self, question: int, counts: np.ndarray) -> np.ndarray:
        """Return draws of the shares behind counts, shape (..., draws, labels)."""
        name = self._questions[question].name
        if question not in self._inverses:
            confusion = self._questions[question].confusion if self._adjust else None
            random = np.random.default_rng((self._seed, zlib.crc32(name.encode())))
            self._inverses[question] = None if confusion is None else confusion.draws(random)
        random = np.random.default_rng((self._seed, zlib.crc32(name.encode()), 1))
        return drawn_shares(counts, self._inverses[question], random)

    def interval(self, draws: np.ndarray, axis: int) -> np.ndarray:
        """Return the ends of the interval of draws, shape (2, ...)."""
        ends: np.ndarray = np.quantile(draws, self._tails, axis=axis)
        return ends

    def moved(self, one: Series, values: Values, column: int, base: Sequence[Window], later: Sequence[Window]) -> Size:
        """Return how far a series has moved from its baseline.

        Args:
            one: the series.
            values: of the windows of the baseline, and of those after the change.
            column: of the series.
            base: the windows of the baseline.
            later: those after the change.
        """
        if one.cell and not any(one.name in window.estimates for window in later):
            counts = np.stack([self.predicted(one.cell, base), self.predicted(one.cell, later)])
            label = one.cell[1]
            before, share = self.estimated(one.cell[0], counts)[:, label].tolist()
            drawn = self.draws(one.cell[0], counts)[..., label]
            low, high = self.interval(drawn[1] - drawn[0], 0).tolist()
            return Size(share, before, low, high)
        (before, error), (share, own) = (
            _mean(values[places], column) for places in (slice(len(base)), slice(len(base), None))
        )
        reach = norm.ppf(self._tails[1]) * np.hypot(error, own)
        low, high = share - reach - before, share + reach - before
        if one.cell:
            low, high = max(low, -before), min(high, 1 - before)
        return Size(share, before, low, high)

    def risen_most(self, one: Series, base: Sequence[Window], later: Sequence[Window]) -> int:
        """Return the label whose share has risen most where that of `one` has fallen."""
        counts = np.stack([self.predicted(one.cell, base), self.predicted(one.cell, later)])
        before, after = self.estimated(one.cell[0], counts)
        return int(np.argmax(after - before))


def _mean(values: Values, column: int) -> tuple[float, float]:
    """Return the mean of a series over windows, and its standard error."""
    x, n, u = (np.nan_to_num(part[:, column]) for part in values.parts)
    total = max(n.sum(), 1.0)
    return float((n * x).sum() / total), float(np.sqrt((n * u).sum()) / total)
