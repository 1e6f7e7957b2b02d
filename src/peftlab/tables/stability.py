"""Has a column changed between two periods, and does a column say too much to have been known in time?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from peftlab.scores.ordering import auc
from peftlab.tables.columns import category_of, number_of

BINS = 10
"""Bins of a column of numbers, equally full in the training rows."""

SHIFTED = 0.25
"""The index above which a column is said to have changed, by the field's convention; from 0.1 on it is watched."""

SUSPECT = 0.95
"""The AUC above which a column alone is named as a likely leak."""

MIN_ROWS = 20
"""Rows of either outcome without which nothing is said about a leak."""


def stability_index(before: np.ndarray, after: np.ndarray, bins: int) -> float:
    """Return the population stability index of two samples of bins: the sum of (q - p) log(q / p).

    It is the symmetric Kullback-Leibler divergence. Half a row is added to every bin, or an empty one would make it
    infinite. Equal populations have about (bins - 1) (1/n + 1/m).
    """
    p, q = ((np.bincount(each, minlength=bins) + 0.5) / (len(each) + 0.5 * bins) for each in (before, after))
    return float(((q - p) * np.log(q / p)).sum())


def binned(train: Sequence[Any], others: Sequence[Sequence[Any]], numeric: bool) -> tuple[list[np.ndarray], int]:
    """Return the bin of every cell of the training rows and of each other sample, and how many bins there are.

    Args:
        train: the cells of the training rows, whose quantiles or categories are the bins.
        others: cells of other samples.
        numeric: whether they are numbers; missing ones have a bin, as have unknown categories.
    """
    if not numeric:
        names = {name: place for place, name in enumerate(sorted(set(map(category_of, train))))}
        places = [np.array([names.get(category_of(cell), len(names)) for cell in cells]) for cells in (train, *others)]
        return places, len(names) + 1
    samples = [
        np.array([np.nan if (number := number_of(cell)) is None else number for cell in cells])
        for cells in (train, *others)
    ]
    edges = np.unique(np.nanquantile(samples[0], np.linspace(0, 1, BINS + 1)[1:-1]))
    places = [np.where(np.isnan(each), len(edges) + 1, np.searchsorted(edges, each, "left")) for each in samples]
    return places, len(edges) + 2


def alone(train: np.ndarray, y: np.ndarray, later: np.ndarray, later_y: np.ndarray, bins: int) -> float | None:
    """Return the AUC of a column alone on later rows, by the rates of its bins in the training rows.

    Returns None if fewer than `MIN_ROWS` later rows had either outcome.

    Args:
        train: the bin of each training row.
        y: what happened in them.
        later: the bin of each later row.
        later_y: what happened in them.
        bins: how many there are.
    """
    if min(later_y.sum(), (~later_y).sum()) < MIN_ROWS:
        return None
    counts, happened = (np.bincount(train, weights=weights, minlength=bins) for weights in (None, y.astype(float)))
    rates = (happened + y.mean()) / (counts + 1)
    return auc(rates[later], later_y)
