"""What the page of a stream says of its contenders, from matrices made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from peftlab.continual.matrix import Matrix
from peftlab.continual.report import closed, differences, summary
from peftlab.continual.stream import Walk


def walks(levels, joint=None, seeds=3, orders=3):
    """Return walks of two stages, by contender with scores about a level, which seeds and orders change."""
    random = np.random.default_rng(0)
    made = []
    for contender, level in levels.items():
        for seed in range(seeds):
            for order in range(orders):
                values = np.clip(level + 0.01 * random.standard_normal((2, 2)), 0, 1)
                made.append(Walk(contender, seed, order, ("a", "b"), ("x", "y"), Matrix(values), joint))
    return made


def test_p_values_are_adjusted_for_all_pairs_and_measures():
    found = differences(walks({"plain": 0.5, "replay": 0.6, "ewc": 0.5}))
    assert len(found) == 3 * 5
    raw = [one.p() for *_, one, _ in found]
    adjusted = [p for *_, p in found]
    least = min(range(15), key=raw.__getitem__)
    assert adjusted[least] == pytest.approx(15 * raw[least])
    assert all(p >= own for p, own in zip(adjusted, raw, strict=True))
    alone = differences(walks({"plain": 0.5, "ewc": 0.5}, seeds=1, orders=1))
    assert {p for *_, p in alone} == {None}


def test_no_interval_has_a_score_that_there_cannot_be():
    good = walks({"plain": 1.0}, seeds=2, orders=2)
    of_accuracy, of_loss = (summary(good, metric)["plain"]["accuracy"] for metric in ("accuracy", "loss"))
    assert (of_accuracy.high, of_accuracy.low) == (1, of_loss.low)
    assert of_loss.high > 1


def test_there_is_no_way_to_joint_training_that_is_as_good():
    """The mean of three scores of .1 is more than .1 by rounding; a gain over that would be a quadrillion percent."""
    plain, replay = (
        [Walk("c", seed, 0, ("a", "b"), ("x", "y"), Matrix(np.full((2, 2), score)), 0.1) for seed in range(3)]
        for score in (0.1, 0.2)
    )
    plain = plain[:2]
    assert np.mean([0.1] * 3) != np.mean([0.1] * 2)
    assert closed(replay, plain) is None
    assert closed([replace(walk, joint=0.3) for walk in replay], plain) == pytest.approx(0.5)
