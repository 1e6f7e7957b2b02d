"""Runs that predict clicks: from texts, ids and numbers."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import peftlab
from peftlab.errors import ConfigError, DataError
from peftlab.runs.record import RunRecord
from peftlab.use.check import check
from peftlab.use.reproduce import reproduce

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


@pytest.mark.slow
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


KNOWN = ["task.known_users=[]", "task.known_items=[i3,i4]", "task.means=[2000,35]", "task.sds=[6,9]"]


@pytest.mark.slow
def test_ids_and_numbers_of_private_examples_are_not_read(train):
    private = ["data.format.label=liked", "peft=lora", "privacy=dp"]
    with pytest.raises(ConfigError, match=r"privacy.unit=group, which protects users"):
        train(*private, *KNOWN)
    with pytest.raises(ConfigError, match=r"task.known_users=null reads training examples, without noise"):
        train(*private, "privacy.unit=group")
    with pytest.raises(ConfigError, match=r"task.known_users=null: it would need the examples of all clients"):
        train("data.format.label=liked", "peft=lora", "federated=fedavg")


@pytest.mark.exhaustive
def test_a_private_run_protects_users(train):
    pytest.importorskip("opacus")
    options = ["data.format.label=liked", "peft=lora", "privacy=dp", "privacy.unit=group", "data.batch_size=8"]
    record = train(*options, *KNOWN, "budget.max_steps=4")
    assert record.data["privacy"]["weights_moved"] is True
    assert peftlab.load("run").evaluate().equal
    assert check(peftlab.load("run").folder).causes == []


@pytest.mark.slow
def test_an_adapter_is_of_the_same_ids(train):
    few = ["data.format.label=liked", "peft=lora", "budget.max_steps=2"]
    first = train(*few)
    on = train(*few[:-1], "budget.max_steps=0", "adapter=run/adapter", "run_dir=on")
    assert on.score("test", "log_loss") == first.score("test", "log_loss")
    known = [f"i{n}" for n in range(19)]
    with pytest.raises(ConfigError, match=r"items stand for its task\.known_items, and the adapter's for others"):
        train(*few, f"task.known_items=[i90,{','.join(known)}]", "adapter=run/adapter", "run_dir=other")
    train(*few, "task.known_items=[i1]", "adapter=run/adapter", "run_dir=fewer")  # which begin anew
    shutil.copytree("run/adapter", "copied/adapter")
    with pytest.raises(ConfigError, match="or for nobody knows what"):
        train(*few, "adapter=copied/adapter", "run_dir=unknown")


@pytest.mark.slow
def test_a_run_is_repeated_even_where_a_score_is_none(train):
    record = train("data.format.label=liked", "peft=lora", "budget.max_steps=2", "data.format.periods=[0.97,0.98]")
    assert RunRecord.load(record.folder).score("validation", "gauc") is None
    assert reproduce(record.folder).verdict == "identical"


def test_data_without_labels_is_refused(train):
    with pytest.raises(DataError, match="no two different labels"):
        train("peft=lora")
