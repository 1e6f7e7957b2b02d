"""Finished runs whose answers are averaged or voted on: again a run, with what its parents were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from peftlab.errors import UserError
from peftlab.tasks.mixing import Members
from peftlab.use.ensembles.averaging import average
from peftlab.use.ensembles.members import check_members
from peftlab.use.finished import load

OTHERS = {"bitfit": ["peft=bitfit", "seed=1"], "full": ["peft=full", "seed=2", "optimizer.lr=1e-3"]}


@pytest.fixture(scope="session")
def members(finished, run_once):
    """Runs of three methods and seeds; tests only read them."""
    others = [run_once(f"member-{name}", *overrides, "budget.max_steps=40") for name, overrides in OTHERS.items()]
    return [load(record.folder) for record in (finished, *others)]


def predictions(run, split="test"):
    return [json.loads(line) for line in (run.folder.predictions / f"{split}.jsonl").read_text().splitlines()]


def test_an_average_is_a_run_that_answers_as_the_mean_of_its_members(members):
    run = average(members, temperature=1.0)
    record = run.record
    assert record.data["status"] == "completed"
    assert [one["id"] for one in record.derived["parents"]] == [one.record.data["run_id"] for one in members]
    for answers in zip(*(predictions(one) for one in (run, *members)), strict=True):
        mine, *theirs = [[list(word.values()) for word in one["probabilities"] if word] for one in answers]
        np.testing.assert_allclose(mine, np.mean(theirs, 0), atol=2e-6)
    assert run.evaluate().equal
    (answer,) = run.predict(["Ada Lovelace moved to Paris ."])
    assert answer["entities"] is not None
    assert average(members, temperature=1.0).folder.path == run.folder.path
