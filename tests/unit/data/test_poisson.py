from __future__ import annotations

import numpy as np
import pytest

from peftlab.data.batching import Division
from peftlab.data.poisson import Poisson, numbered


def test_every_unit_joins_each_batch_on_its_own():
    sampling = Poisson(np.arange(40), rate=0.25, steps=50, seed=3)
    joins = np.zeros((40 * 50, 40))
    for epoch in range(40):
        for place, batch in enumerate(sampling.plan(epoch)):
            joins[epoch * 50 + place, batch] = 1
    assert joins.mean() == pytest.approx(0.25, abs=0.005)
    sizes = joins.sum(1)
    assert sizes.var() == pytest.approx(40 * 0.25 * 0.75, rel=0.1)  # binomial: shuffled batches would have none
    correlation = np.corrcoef(joins.T)
    assert np.abs(correlation[~np.eye(40, dtype=bool)]).max() < 0.12
    between = np.corrcoef(joins[:-1, 0], joins[1:, 0])[0, 1]
    assert abs(between) < 0.1


def test_a_batch_depends_on_seed_and_place_only():
    sampling = Poisson(np.arange(30), 0.3, 6, seed=1)
    assert sampling.plan(2)[4] == list(sampling.plan(2))[4]
    assert sampling.plan(2)[4] != sampling.plan(1)[4]
    assert list(sampling.plan(0)) != list(Poisson(np.arange(30), 0.3, 6, seed=2).plan(0))
    assert sampling.plan(0)[1:3] == [sampling.plan(0)[1], sampling.plan(0)[2]]
    with pytest.raises(IndexError):
        sampling.plan(0)[6]


def test_groups_join_as_a_whole():
    units = numbered(["a", None, "b", "a", None, "b", "0"])
    assert units.tolist() == [0, 1, 2, 0, 3, 2, 4]
    for batch in Poisson(units, 0.5, 100, seed=0).plan(0):
        assert (0 in batch) == (3 in batch)
        assert (2 in batch) == (5 in batch)


def test_an_empty_batch_is_divided_into_fillers():
    parts = Division(accumulate=2).of_training_batch([], epoch=1)
    assert [part.examples for part in parts] == [[], []]
    assert [part.batch for part in parts] == [[0], [0]]
