"""The budgets of shadow models."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.data.sampling import half_of, random_sample
from peftlab.use.auditing.shadows import halved


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({}, {"train_examples": None, "half": 3}),
        ({"train_examples": 100, "stratified": True}, {"train_examples": 200, "stratified": True, "half": 3}),
        ({"train_examples": 0.2}, {"train_examples": 0.4, "half": 3}),
        ({"train_examples": 0.7, "stratified": True}, {"train_examples": None, "stratified": False, "half": 3}),
        ({"per_class": 16}, {"per_class": 32, "half": 3}),
        ({"train_examples": 100, "half": 0}, {"train_examples": 100, "half": 5}),
        ({"half": 5}, {"half": 9}),
    ],
)
def test_the_sample_contains_that_of_the_run_and_the_half_is_another(budget, expected):
    found = halved(budget, 3)
    assert {key: found[key] for key in expected} == expected


def test_a_sample_of_a_run_is_about_half_in_each_shadow():
    own = set(random_sample(1000, 100))
    wide = random_sample(1000, halved({"train_examples": 100}, 0)["train_examples"])
    assert own < set(wide)
    halves = [wide[half_of(len(wide), shadow)] for shadow in range(6)]
    for one, other in zip(halves[::2], halves[1::2], strict=True):
        assert sorted([*one, *other]) == wide.tolist()
    assert 30 < np.mean([len(own & set(half)) for half in halves]) < 70
