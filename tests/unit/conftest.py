"""What the unit tests share: the tiny BERT as a `Pretrained`, its tokenizer, and tasks that know their labels."""

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
        task = Ner(name="ner", selection=Selection(metric=metric), **options)
        task.learn_labels({"train": []}, list(types))
        return task

    return make


@pytest.fixture
def classification():
    """Return a maker of classification tasks with the labels neg and pos."""
    from peftlab.tasks.classification import Classification
    from peftlab.tasks.task import Selection

    def make(labels=("neg", "pos"), metric="macro_f1", **options):
        task = Classification(name="classification", selection=Selection(metric=metric), **options)
        task.learn_labels({"train": []}, list(labels))
        return task

    return make
