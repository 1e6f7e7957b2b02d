"""Resampling: the sums are those of what is drawn, however many are held at once."""

from __future__ import annotations

import numpy as np

from peftlab.scores import resampling
from peftlab.scores.resampling import resampled_totals


def test_the_sums_are_those_of_what_is_drawn(monkeypatch):
    counts = np.random.default_rng(0).integers(0, 5, (7, 4)) * [1, 0, 1, 1]
    (totals,) = resampled_totals(counts, 50, seed=3)
    drawn = np.random.default_rng(3).integers(0, 7, (50, 7))
    assert (totals == counts[drawn].sum(axis=1)).all()
    assert totals.dtype == counts.dtype
    monkeypatch.setattr(resampling, "_MOST_CELLS", 100)
    parts = list(resampled_totals(counts, 50, seed=3))
    assert [len(part) for part in parts] == [9, 9, 9, 9, 9, 5]
    assert (np.concatenate(parts) == totals).all()
