"""Finished runs as labelling functions: which tasks they may be of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from peftlab.errors import DataError, UserError
from peftlab.tasks.contrastive import Contrastive
from peftlab.tasks.prompt import Prompt
from peftlab.tasks.relation import RelationClassification
from peftlab.tasks.task import Selection
from peftlab.use import voting_run
from peftlab.use.predictor import Refused
from peftlab.weak_supervision.functions import Unlabelled


def test_every_task_of_one_label_a_text_votes(monkeypatch):
    selection = Selection(metric="macro_f1")
    tasks = [
        Prompt(name="prompt", selection=selection, template="{text} {answer}"),
        Contrastive(name="contrastive", selection=selection),
        RelationClassification(name="relation", selection=Selection(metric="micro_f1")),
    ]
    for task in tasks:
        run = SimpleNamespace(parts=SimpleNamespace(task=task), predictor=None)
        monkeypatch.setattr(voting_run, "load", lambda *_, run=run: run)
        if task.name != "relation":
            assert voting_run.voting_run("mine", "3f9c", 0.5, words=False).name == "mine"
            continue
        with pytest.raises(UserError, match=r"a run of task=relation; expected one of task=classification, prompt or"):
            voting_run.voting_run("mine", "3f9c", 0.5, words=False)


def test_it_abstains_where_the_run_does_and_says_what_it_cannot_read(caplog):
    sure = {"predicted": "money", "probability": 0.99}
    answers = [
        sure,
        sure | {"in_scope": True, "score": 1.0},
        sure | {"in_scope": False, "score": -9.0},
        sure | {"in_scope": True, "score": 1.0, "labels": [], "action": "escalated"},
        Refused({}, DataError("this run takes pairs of texts")),
    ]
    run = voting_run.VotingRun("mine", SimpleNamespace(answers=lambda texts: iter(answers)), 0.5)
    texts = [Unlabelled(str(n)) for n in range(len(answers))]
    assert list(run.votes(texts)) == ["money", "money", None, None, None]
    assert caplog.messages == [
        "runs.mine: abstains on 1 of 5 texts that it cannot read; the first: this run takes pairs of texts"
    ]
