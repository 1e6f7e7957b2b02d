"""What the unit tests share: the tiny BERT as a `Pretrained`, its tokenizer, and a task that knows its labels."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pretrained(tiny_model: Path):
    from peftlab.backbone import ModelSpec, fetch
    from peftlab.sources import FilesSource

    return fetch(ModelSpec(name="tiny", source=FilesSource(path=tiny_model)))


@pytest.fixture(scope="session")
def tokenizer(pretrained):
    return pretrained.tokenizer()


@pytest.fixture
def ner():
    """Return a maker of NER tasks with the types LOC and PER."""
    from peftlab.tasks.ner import Ner
    from peftlab.tasks.task import Selection

    def make(types=("LOC", "PER"), metric="entity_f1", **options):
        task = Ner(name="ner", selection=Selection(metric=metric, mode="max"), **options)
        task.learn_labels({"train": []}, list(types))
        return task

    return make
