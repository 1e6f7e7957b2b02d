"""What the answers themselves show."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.report.sections.answers import f1_of_class
from peftlab.report.statistics.bootstrap import jackknife_interval


@pytest.mark.parametrize(("examples", "like"), [(5, 5), (1, None), (0, None)])
def test_the_interval_of_a_class_is_over_the_clusters_that_have_it(examples, like):
    """All of a few right answers are no surer for a thousand examples of other classes."""
    matrices = np.zeros((1000, 2, 2), int)
    matrices[:examples, 1, 1] = 1
    matrices[examples:, 0, 0] = 1
    one = f1_of_class(matrices, 1, 0.95)
    wilson = None if like is None else jackknife_interval(np.ones(like), bounded=True)
    assert one["value"] == (1 if examples else 0)
    assert (one["low"], one["high"]) == ((None, None) if wilson is None else (wilson.low, wilson.high))
