"""Which series raise an alert in a window, and when it is over.

In each window, the statistic of each series' detector becomes a p value by its simulated distribution where nothing
changes, and the procedure of Benjamini and Hochberg (1995) says which series have moved. Its level is not an error rate
that a user chooses: `calibration` sets it so that no more alerts open in a month without change than are allowed.

An open alert is quiet in a window that lies nearer to the old level than to a shift that is to be found. After enough
quiet windows it is over, and its detector begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftlab.opinion.detectors import Detection

GRID = 256
"""Points of a tail."""


@dataclass(frozen=True)
class Tails:
    """The probability that a statistic is at least so large where nothing changes, series by series.

    Attributes:
        width: between the points of the grid, which begins at 0, shape (series,).
        log_p: logarithms of the probabilities at the points, shape (series, GRID).
    """

    width: np.ndarray
    log_p: np.ndarray

    @classmethod
    def of(cls, statistics: np.ndarray) -> Tails:
        """Return the tails of simulated statistics, shape (..., series); NaN: there was none."""
        flat = statistics.reshape(-1, statistics.shape[-1])
        width = 1.001 * np.maximum(np.nan_to_num(flat).max(0), 1e-6) / (GRID - 1)
        log_p = np.empty((flat.shape[1], GRID))
        for column, own in enumerate(flat.T):
            known = np.sort(own[~np.isnan(own)])
            below = np.searchsorted(known, np.arange(GRID) * width[column] * (1 - 1e-9))
            log_p[column] = np.log((1 + len(known) - below) / (1 + len(known)))
        return cls(width, log_p)

    def p(self, statistics: np.ndarray) -> np.ndarray:
        """Return the p values of statistics, shape (..., series)."""
        place = np.minimum(statistics / self.width, GRID - 1)
        left = np.minimum(place.astype(np.int64), GRID - 2)
        columns = np.arange(len(self.width))
        low, high = self.log_p[columns, left], self.log_p[columns, left + 1]
        p: np.ndarray = np.exp(low + (place - left) * (high - low))
        return p


def rejected(p: np.ndarray, level: float) -> np.ndarray:
    """Return which hypotheses the procedure of Benjamini and Hochberg rejects, shape (..., hypotheses); NaN: none."""
    number = (~np.isnan(p)).sum(-1, keepdims=True)
    rising = np.sort(p, axis=-1)  # NaN last
    within = rising <= level * np.arange(1, p.shape[-1] + 1) / np.maximum(number, 1)
    least: np.ndarray = np.where(within, rising, -1.0).max(-1, keepdims=True)
    return p <= least


@dataclass(frozen=True)
class Step:
    """What a window has changed; arrays of shape (..., series)."""

    opened: np.ndarray
    closed: np.ndarray
    p: np.ndarray
    statistic: np.ndarray


class Monitor:
    """Follows series from window to window: all of one stream, or of many simulated ones at once.

    Args:
        detector: of all series.
        tails: of its statistics.
        level: of the procedure of Benjamini and Hochberg.
        close_after: quiet windows that end an alert.
        shape: (..., series).
        families: the places of the series that the procedure takes together; None: all. Many true alerts in a family
            make it generous to the rest, so that what is said of opinions must not decide on the texts themselves.

    Attributes:
        open: 1 where an alert that something rises is open, -1 that it falls, 0: none.
        since: the window in which what speaks for a rise or a fall began, shape (2, ..., series).
    """

    def __init__(
        self,
        detector: Detection,
        tails: Tails | None,
        level: float,
        close_after: int,
        shape: tuple[int, ...],
        families: Sequence[np.ndarray] | None = None,
    ) -> None:
        self._detector, self._tails, self._level, self._close_after = detector, tails, level, close_after
        self._families = [np.arange(shape[-1])] if families is None else families
        self._state = np.zeros((detector.numbers, *shape))
        self.open = np.zeros(shape, np.int64)
        self._quiet = np.zeros(shape, np.int64)
        self.since = np.zeros((2, *shape), np.int64)
        self._windows = 0

    def step(self, z: np.ndarray, k: np.ndarray) -> Step:
        """Take in the standardised values of a window; NaN: the series keeps its state."""
        seen = ~np.isnan(z)
        self._state = np.where(seen, self._detector.step(self._state, np.where(seen, z, 0.0), k), self._state)
        sides = self._detector.statistics(self._state)
        self._windows += 1
        self.since = np.where(sides > 0, self.since, self._windows)
        statistic = np.where(seen, sides.max(0), np.nan)
        p = np.full(z.shape, np.nan)
        moved = np.zeros(z.shape, bool)
        if self._tails is not None:
            p = np.where(seen, self._tails.p(np.where(seen, statistic, 0.0)), np.nan)
            for family in self._families:
                moved[..., family] = rejected(p[..., family], self._level)
        opened = moved & (self.open == 0)
        self.open = np.where(opened, np.where(sides[0] >= sides[1], 1, -1), self.open)
        quiet = seen & (self.open != 0) & (self.open * z < k) & ~opened
        self._quiet = np.where(quiet, self._quiet + 1, np.where(seen, 0, self._quiet))
        closed = (self.open != 0) & (self._quiet >= self._close_after)
        self.open[closed] = 0
        self._quiet[closed] = 0
        self._state[:, closed] = 0.0
        self.since[:, closed] = self._windows
        return Step(opened, closed, p, statistic)

    def as_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        arrays = {"state": self._state, "open": self.open, "quiet": self._quiet, "since": self.since}
        return {name: array.tolist() for name, array in arrays.items()} | {"windows": self._windows}

    def go_on(self, document: Mapping[str, Any]) -> None:
        """Take the state of an earlier monitor of the same series."""
        self._state = np.asarray(document["state"], float)
        self.open, self._quiet, self.since = (
            np.asarray(document[name], np.int64) for name in ("open", "quiet", "since")
        )
        self._windows = document["windows"]
