"""Runs that predict clicks: from texts, ids and numbers."""

from __future__ import annotations

import numpy as np
import pytest

import peftlab
from peftlab.errors import DataError
from peftlab.use.check import check

DATA = [
    "data=interactions",
    "data.format.users=users.csv",
    "data.format.numbers=[age,year]",
    "data.format.protocol=time",
    "data.max_tokens=40",
    "optimizer.lr=2e-2",
    "budget.max_steps=60",
    "run_dir=run",
]


@pytest.fixture
def train(run_tiny, tiny_interactions):
    def make(*overrides):
        return run_tiny("task=click", *DATA, f"data.path={tiny_interactions}", *overrides)

    return make


def test_a_run_learns_which_items_are_liked_and_knows_new_ones_by_their_text(train):
    record = train("data.format.label=liked", "peft=lora", "trainer.accumulate=2")
    assert record.score("test", "auc") > 0.8
    run = peftlab.load("run")
    assert run.evaluate().equal
    assert check(run.folder).causes == []
    task = run.parts.task
    assert len(task.known_items) == 20
    assert np.allclose(task.means[0], np.mean([1990 + n for n in range(20)]), atol=2)
    text = "maria moved to paris 4"
    known, other, new = run.predict([{"text": text, "item": item} for item in ("i4", "i5", "i99")])
    assert known["probability"] > new["probability"] > other["probability"]
    assert run.predict([{"text": text, "item": "i98", "numbers": [2000, 30]}])[0]["liked"] in (True, False)
    with pytest.raises(DataError, match="expected a list of 2 numbers"):
        run.predict([{"text": text, "numbers": [1]}])


def test_data_without_labels_is_refused(train):
    with pytest.raises(DataError, match="no two different labels"):
        train("peft=lora")
