"""Many sums of counts are scored as one by one."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.scores.class_scores import ClassScores
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.scorer import Scorer


@pytest.mark.parametrize("classes", [2, 3, 9, 40])
@pytest.mark.parametrize("kind", [ClassScores, EntityScores])
def test_batched_scores_are_those_of_each_sum_in_double_precision(kind, classes):
    scorer = kind([f"c{index}" for index in range(classes)])
    totals = np.random.default_rng(classes).integers(0, 30, (20, scorer.width)) * (np.arange(20) % 4 > 0)[:, None]
    totals[5, : scorer.width // 2] = 0  # some classes do not occur
    batched, looped = scorer.batched(totals), Scorer.batched(scorer, totals)
    assert list(batched) == list(looped) == list(scorer.directions)
    for name, values in batched.items():
        assert values.dtype == np.float64
        assert values == pytest.approx(looped[name], abs=1e-6), name
    best = next(name for name in batched if name.endswith("f1_macro") or name == "macro_f1")
    occurring = [[row.f1 for row in scorer.rows(total) if row.support + row.predicted] for total in totals]
    assert batched[best] == pytest.approx([np.mean(one) if one else 0 for one in occurring], abs=1e-12)
