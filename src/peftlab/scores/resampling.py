"""Resampling of counts: the bootstrap needs only how often each unit is drawn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_MOST_CELLS = 2**22
"""Draws that are held at once: 32 MiB."""


def resampled_totals(counts: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the sums of the counts of units drawn with replacement, some resamples at a time.

    How often each unit is drawn is multinomial (Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section
    20.4), so that a resample is one row of a matrix product.

    Args:
        counts: shape (units, width); a unit is what was sampled: an example, or a cluster of examples.
        resamples: number of resamples in all.
        seed: of the draws.

    Yields:
        Arrays of shape (number, width), of the dtype of `counts`.
    """
    units, width = counts.shape
    occurring = np.flatnonzero(counts.any(axis=0))  # most cells of a confusion matrix of many classes are empty
    doubles = counts[:, occurring].astype(np.float64)
    random = np.random.default_rng(seed)
    at_once = max(1, _MOST_CELLS // (units + width))
    for start in range(0, resamples, at_once):
        number = min(at_once, resamples - start)
        drawn = random.integers(0, units, (number, units))
        drawn += units * np.arange(number)[:, None]
        times = np.bincount(drawn.ravel(), minlength=number * units).reshape(number, units)
        totals = np.zeros((number, width))
        totals[:, occurring] = times.astype(np.float64) @ doubles
        yield totals.astype(counts.dtype)  # sums of whole numbers are exact in doubles
