"""A logistic model of one token a text, whose worst losses have a closed form."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers.utils import ModelOutput

from peftlab.regularizers.regularizer import Computed
from peftlab.regularizers.repeatable import RepeatablePass
from peftlab.tasks.batch import Batch
from peftlab.tasks.classification import Classification
from peftlab.tasks.task import Selection
from peftlab.training.objective import Objective

EMBEDDINGS = [[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0], [0.0, 0.0]]
WEIGHTS = [3.0, 4.0]


class Logistic(nn.Module):
    """Predicts class 1 with the logit w.x, x the sum of a text's embeddings; padding (the last id) is left out."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embeddings = nn.Embedding.from_pretrained(torch.tensor(EMBEDDINGS))
        self.weight = nn.Parameter(torch.tensor(WEIGHTS))
        self.dropout = nn.Dropout(dropout)

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def forward(self, input_ids, attention_mask):
        summed = (self.embeddings(input_ids) * attention_mask.unsqueeze(-1)).sum(1)
        logit = self.dropout(summed) @ self.weight
        return ModelOutput(logits=torch.stack([torch.zeros_like(logit), logit], -1))


@pytest.fixture
def task():
    task = Classification(name="classification", selection=Selection(metric="macro_f1"))
    task.labels = ["no", "yes"]
    return task


@pytest.fixture
def model():
    return Logistic()


def batch_of(texts, gold=None):
    """Return a batch of texts, lists of token ids, each with the gold class 1 by default."""
    width = max(map(len, texts))
    ids = torch.tensor([text + [3] * (width - len(text)) for text in texts])
    return Batch(
        inputs={"input_ids": ids, "attention_mask": (ids != 3).long()},
        targets={"labels": torch.tensor(gold or [1] * len(texts))},
        weights=torch.ones(len(texts), dtype=torch.float64),
        rows=torch.arange(len(texts)),
        examples=[SimpleNamespace(id=str(n)) for n in range(len(texts))],
        tokens=int((ids != 3).sum()),
    )


@pytest.fixture
def computed_for(model, task):
    def computed(batch, special=None):
        def forward(batch):
            return model(**batch.inputs)

        first = RepeatablePass(model, forward, batch, [model.weight], special)
        first.differentiate(task.loss(first.outputs, batch), keep_graph=True)
        return Computed(task, model, forward, batch, first.outputs, first)

    return computed


@pytest.fixture
def objective_for(model, task):
    def objective(**terms):
        method = SimpleNamespace(penalty=lambda model: None)
        return Objective(task, method, model, terms)

    return objective
