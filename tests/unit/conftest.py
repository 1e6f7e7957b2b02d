"""What the unit tests share: the tiny BERT as a `Pretrained`, its tokenizer, and tasks that know their labels.

For callbacks, a clock that only moves when told to, and a model that trains in no time.
"""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from peftlab.tasks.batch import Batch


@pytest.fixture(scope="session")
def pretrained(tiny_model: Path):
    from peftlab.models.backbone import ModelSpec, fetch
    from peftlab.sources import FilesSource

    return fetch(ModelSpec(name="tiny", source=FilesSource(path=tiny_model)))


@pytest.fixture(scope="session")
def tokenizer(pretrained):
    return pretrained.tokenizer()


@pytest.fixture(scope="session")
def processor(pretrained):
    return pretrained.processor("tokenizer")


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


class Clock:
    """Stands in for ``time.perf_counter``."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class OneLayer(L.LightningModule):
    """A linear layer from 8 to 4 on random rows; a training step takes one second, a validation step a hundred."""

    def __init__(self, clock):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4, bias=False)
        self.clock = clock

    def training_step(self, batch, batch_idx):
        self.clock.now += 1
        loss = sum(self.layer(part.inputs["x"]).sum() for part in batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.clock.now += 100
        self.log("validation/score", 0.5, batch_size=len(batch.examples))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.25)


def batches(*steps: int | tuple[int, ...], parts: bool = True):
    """Steps whose parts are of so many rows of 8 numbers, 3 of which are said to be tokens; or batches of them."""

    def batch(rows: int) -> Batch:
        inputs = {"x": torch.ones(rows, 8)}
        return Batch(inputs, {}, torch.ones(rows), torch.arange(rows), list(range(rows)), tokens=3 * rows)

    sizes = [step if isinstance(step, tuple) else (step,) for step in steps]
    made = [[batch(rows) for rows in step] for step in sizes]
    return DataLoader(made if parts else [first for (first,) in made], batch_size=None, collate_fn=lambda it: it)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def train(clock):
    """Train on steps of so many rows, in several parts where there is a tuple of them, with a callback."""

    def run(callback, *rows, epochs=2, validation=(5, 5), module=None, **options):
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **options,
        )
        module = module or OneLayer(clock)
        trainer.fit(module, batches(*rows), batches(*validation, parts=False) if validation else None)
        return trainer, module

    run.one_layer = OneLayer
    return run
