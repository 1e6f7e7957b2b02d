"""Measures of a model by group of examples, such as rates, calibration and ranking, for many divisions at once.

A division gives each unit (an example, or a cluster of examples) the number of its group, or -1 for none. A test of a
gap tries thousands of divisions, so every measure is computed for a matrix of them, shape (draws, units).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from typing_extensions import override

from peftlab.report.statistics.measured import Score, pseudo_values

Ses = np.ndarray | None
"""Standard errors, in the shape of the values that they belong to; None: a measure has none for each division."""

BINS = 15
"""Bins of the expected calibration error."""


@dataclass(frozen=True)
class Measure(ABC):
    """What is measured of each group."""

    name: str
    """The metric, and behind a slash the label that it is of, such as ``fnr/negative``."""

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return True

    @property
    def is_smooth(self) -> bool:
        """Whether it is nearly linear in the examples, so that their influences describe its errors."""
        return True

    @abstractmethod
    def sizes(self, groups: np.ndarray, number: int) -> np.ndarray:
        """Return how many rows count in each group: for a miss rate those with the label, shape (number,)."""

    @abstractmethod
    def counting(self) -> np.ndarray:
        """Return which rows count at all, bool of shape (rows,)."""

    @abstractmethod
    def clustered(self, clusters: np.ndarray) -> Measure:
        """Return the measure whose units are clusters of the rows, 0, 1, ... in `clusters`, each of one group."""

    @abstractmethod
    def at(self, groups: np.ndarray, number: int) -> tuple[np.ndarray, Ses]:
        """Return the value of each group under each division, and its standard error, shape (draws, number).

        Args:
            groups: whole numbers, shape (draws, units).
            number: how many groups there are; NaN where none of a group's units counts.
        """

    def overall(self, groups: np.ndarray) -> float:
        """Return the value of all rows that have a group."""
        return float(self.at(np.where(groups >= 0, 0, -1)[None], 1)[0][0, 0])

    @abstractmethod
    def influence(self, groups: np.ndarray, number: int, clusters: np.ndarray) -> np.ndarray:
        """Return what each cluster adds to the error of each group, whose squares sum to its variance.

        Args:
            groups: the group of each row, shape (rows,).
            number: how many groups there are.
            clusters: the cluster of each row, 0, 1, ...; a cluster may have rows of several groups.

        Returns:
            Shape (clusters, number).
        """


@dataclass(frozen=True)
class Ratio(Measure):
    """A sum over examples divided by another: accuracy, miss rate, false alarms, F1, mean absolute error.

    Standard errors are linearised. Those of a share have two pseudo-examples in every group, a right and a wrong one of
    mean weight (Agresti & Caffo 2000): else a group without an error would seem free of uncertainty.
    """

    numerators: np.ndarray
    """Shape (rows,)."""
    denominators: np.ndarray
    """Shape (rows,); 0 in rows that do not count."""
    share: bool = True
    """Whether no numerator is below 0 or above its denominator."""

    @property
    @override
    def is_share(self) -> bool:
        return self.share

    @override
    def counting(self) -> np.ndarray:
        return self.denominators > 0

    @override
    def sizes(self, groups: np.ndarray, number: int) -> np.ndarray:
        return _sizes(groups[self.counting()], number)

    @override
    def clustered(self, clusters: np.ndarray) -> Ratio:
        above, below = (np.bincount(clusters, weights=each) for each in (self.numerators, self.denominators))
        return Ratio(self.name, above, below, self.share)

    @override
    def at(self, groups: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        a, b = self.numerators, self.denominators
        columns = np.stack([a, b, a * a, a * b, b * b, (b > 0).astype(np.float64)], axis=1)
        sums = np.stack([(groups == one).astype(np.float64) @ columns for one in range(number)], axis=1)
        a, b, aa, ab, bb, units = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = a / b
            if not self.share:
                squares = aa - 2 * values * ab + values**2 * bb
                return values, np.sqrt(np.maximum(squares, 0) * units / np.maximum(units - 1, 1)) / b
            weight = b / units
            whole = b + 2 * weight
            shrunk = (a + weight) / whole
            squares = aa - 2 * shrunk * ab + shrunk**2 * bb + weight**2 * ((1 - shrunk) ** 2 + shrunk**2)
            return values, np.sqrt(np.maximum(squares, 0)) / whole

    @override
    def influence(self, groups: np.ndarray, number: int, clusters: np.ndarray) -> np.ndarray:
        a, b = self.numerators, self.denominators
        columns = []
        for one in range(number):
            inside = groups == one
            whole = b[inside].sum()
            rest = np.where(inside, a - a[inside].sum() / whole * b, 0.0) / whole
            columns.append(np.bincount(clusters, weights=rest, minlength=clusters.max() + 1))
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Sums(Measure):
    """A score of sums of counts, such as macro F1 or the expected calibration error; its errors are the jackknife's."""

    counts: np.ndarray
    """Shape (rows, width)."""
    score: Score
    share: bool = True
    smooth: bool = True

    @property
    @override
    def is_share(self) -> bool:
        return self.share

    @property
    @override
    def is_smooth(self) -> bool:
        return self.smooth

    @override
    def counting(self) -> np.ndarray:
        return np.ones(len(self.counts), bool)

    @override
    def sizes(self, groups: np.ndarray, number: int) -> np.ndarray:
        return _sizes(groups, number)

    @override
    def clustered(self, clusters: np.ndarray) -> Sums:
        return replace(self, counts=_summed(self.counts, clusters))

    @override
    def at(self, groups: np.ndarray, number: int) -> tuple[np.ndarray, None]:
        counts = self.counts.astype(np.float64)
        totals = ((groups == one).astype(np.float64) @ counts for one in range(number))
        return np.stack([self.score(total.astype(self.counts.dtype)) for total in totals], axis=1), None

    @override
    def influence(self, groups: np.ndarray, number: int, clusters: np.ndarray) -> np.ndarray:
        result = np.zeros((clusters.max() + 1, number))
        for one in range(number):
            inside = groups == one
            own, places = np.unique(clusters[inside], return_inverse=True)
            values = pseudo_values(_summed(self.counts[inside], places), self.score)
            result[own, one] = (values - values.mean()) / len(own)
        return result


def calibration_error(name: str, confidence: np.ndarray, happened: np.ndarray) -> Sums:
    """Return the expected calibration error in `BINS` equally wide bins (Naeini et al. 2015) as a measure.

    Args:
        name: its name.
        confidence: the probability of each prediction, shape (rows,).
        happened: whether it came true, shape (rows,).
    """
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    counts = np.zeros((len(confidence), BINS + 1))
    counts[np.arange(len(confidence)), bins] = confidence - happened
    counts[:, BINS] = 1
    return Sums(name, counts, _calibration_error, smooth=False)


def _calibration_error(totals: np.ndarray) -> np.ndarray:
    error: np.ndarray = np.abs(totals[:, :BINS]).sum(axis=1) / np.maximum(totals[:, BINS], 1)
    return error


@dataclass(frozen=True)
class Ranking(Measure):
    """The area under the ROC curve with negatives or positives of a group, and the others' of everybody else.

    ``bpsn`` compares background positives with the subgroup's negatives: low where the group's negatives score too
    high. ``bnsp`` compares background negatives with the subgroup's positives (Borkan et al. 2019, section 3). Standard
    errors are those of DeLong et al. (1988), summed over clusters (Obuchowski 1997), and never 0: each side counts as
    if one more score stood apart by about a third.
    """

    scores: np.ndarray
    """Shape (rows,)."""
    positive: np.ndarray
    """Bool, shape (rows,)."""
    kind: Literal["bpsn", "bnsp"] = "bpsn"
    clusters: np.ndarray | None = None
    """The unit of each row; None: each row is one."""
    _order: np.ndarray = field(init=False, repr=False)
    _first: np.ndarray = field(init=False, repr=False)
    _last: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Sort the rows by score."""
        order = np.argsort(self.scores, kind="stable")
        ranked = self.scores[order]
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_first", np.searchsorted(ranked, ranked, "left"))
        object.__setattr__(self, "_last", np.searchsorted(ranked, ranked, "right"))

    @override
    def counting(self) -> np.ndarray:
        return np.ones(len(self.scores), bool)

    @override
    def sizes(self, groups: np.ndarray, number: int) -> np.ndarray:
        subgroup = self.positive == (self.kind == "bnsp")
        own = _sizes(groups[subgroup], number)
        return np.minimum(own, (~subgroup).sum() - _sizes(groups[~subgroup], number))

    @override
    def clustered(self, clusters: np.ndarray) -> Ranking:
        return Ranking(self.name, self.scores, self.positive, self.kind, clusters)

    @override
    def at(self, groups: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        rows = (groups if self.clusters is None else groups[:, self.clusters]).T[self._order]
        values, ses = [], []
        for one in range(number):
            areas, influence, least = self._area(rows == one)
            if self.clusters is not None:
                influence = _rows_summed(influence, self.clusters[self._order])
            values.append(areas)
            ses.append(np.sqrt(np.einsum("rd,rd->d", influence, influence) + least))
        return np.stack(values, axis=1), np.stack(ses, axis=1)

    @override
    def overall(self, groups: np.ndarray) -> float:
        """Return the area of all rows, whatever their group."""
        positive = self.positive[self._order, None]
        below = self._below((~positive).astype(np.float64))
        return float(below[positive].mean() / (~positive).sum())

    @override
    def influence(self, groups: np.ndarray, number: int, clusters: np.ndarray) -> np.ndarray:
        rows, places = groups[self._order, None], clusters[self._order]
        return np.concatenate([_rows_summed(self._area(rows == one)[1], places) for one in range(number)], axis=1)

    def _area(self, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the area under each division, the rows' influences on it, and the least variance.

        The rows are in the order of their scores, and `inside` has the shape (rows, draws), in which the loops over
        rows are fast; the results' shapes are (draws,), (rows, draws) and (draws,).
        """
        positive = self.positive[self._order, None]
        subgroup, background = inside.astype(np.float64), (~inside).astype(np.float64)
        low, high = (subgroup, background) if self.kind == "bpsn" else (background, subgroup)
        low, high = low * ~positive, high * positive
        lows, highs = low.sum(axis=0), high.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_high = self._below(low) / lows
            areas = np.einsum("rd,rd->d", high, of_high) / highs
            of_low = 1 - self._below(high) / highs
            influence = low / lows * (of_low - areas) + high / highs * (of_high - areas)
            least = (lows**-2.0 + highs**-2.0) / 8
        return areas, influence, least

    def _below(self, side: np.ndarray) -> np.ndarray:
        """Return how many of one side score less than each row, those that score the same counted by half."""
        cumulative = np.zeros((len(side) + 1, side.shape[1]))
        np.cumsum(side, axis=0, out=cumulative[1:])
        return (cumulative[self._first] + cumulative[self._last]) / 2


def _sizes(groups: np.ndarray, number: int) -> np.ndarray:
    return np.bincount(groups[groups >= 0], minlength=number)


def _summed(counts: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    totals = np.zeros((int(clusters.max(initial=-1)) + 1, counts.shape[1]), counts.dtype)
    np.add.at(totals, clusters, counts)
    return totals


def _rows_summed(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    order = np.argsort(clusters, kind="stable")
    starts = np.searchsorted(clusters[order], np.arange(clusters.max() + 1))
    summed: np.ndarray = np.add.reduceat(values[order], starts, axis=0)
    return summed
