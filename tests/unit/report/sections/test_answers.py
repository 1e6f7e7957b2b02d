"""What the answers themselves show."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from peftlab.report.sections.answers import f1_of_class
from peftlab.report.statistics.bootstrap import jackknife_interval


@pytest.mark.parametrize(("examples", "like"), [(5, 5), (1, None), (0, None)])
def test_the_interval_of_a_class_is_over_the_clusters_that_have_it(examples, like):
    """All of a few right answers are no surer for a thousand examples of other classes."""
    matrices = np.zeros((1000, 2, 2), int)
    matrices[:examples, 1, 1] = 1
    matrices[examples:, 0, 0] = 1
    one = f1_of_class(matrices.reshape(1000, 4), 1, 0.95)
    wilson = None if like is None else jackknife_interval(np.ones(like), bounded=True)
    assert one["value"] == (1 if examples else 0)
    assert (one["low"], one["high"]) == ((None, None) if wilson is None else (wilson.low, wilson.high))


def test_the_f1_of_a_class_is_the_same_of_counts_without_their_zeros():
    random = np.random.default_rng(0)
    counts = random.integers(0, 3, (40, 25)) * (random.random((40, 25)) < 0.1)
    for place in range(5):
        assert f1_of_class(csr_array(counts), place, 0.95) == f1_of_class(counts, place, 0.95)
        right, gold, found = (
            counts.reshape(-1, 5, 5).sum(axis=0)[own] for own in ((place, place), place, (..., place))
        )
        assert f1_of_class(counts, place, 0.95)["value"] == pytest.approx(2 * right / (gold.sum() + found.sum()))
