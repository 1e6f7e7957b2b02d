"""The closed forms of what keeps an earlier run's answers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers.utils import ModelOutput

from peftlab.errors import ConfigError
from peftlab.regularizers.der import Der
from peftlab.regularizers.lwf import Lwf
from peftlab.regularizers.regularizer import Computed, Material
from peftlab.tasks.batch import Batch
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.task import Selection


def task(*labels):
    made = Classification(name="classification", selection=Selection(metric="macro_f1"))
    made.labels = [*labels]
    return made


def earlier(own, **more):
    labels = own.labels
    places = lambda all_labels: [n for n, label in enumerate(all_labels) if label in labels]  # noqa: E731
    own_options = {"reads_alike": True, "check_reads_alike": lambda task: None, "places": places}
    return SimpleNamespace(sha256="a", place="runs/a", task=own, **own_options, **more)


def batch_of(*examples):
    rows = torch.arange(len(examples))
    targets = {"labels": torch.zeros(len(examples), dtype=torch.long)}
    return Batch({}, targets, torch.ones(len(examples)).double(), rows=rows, examples=[*examples], tokens=2)


def test_old_labels_keep_their_probabilities():
    theirs, mine = torch.randn(2, 2), torch.randn(2, 3)
    old = earlier(task("a", "b"), outputs=lambda batch: ModelOutput(logits=theirs))
    term = Lwf(previous="runs/a", alpha=0.7, temperature=3.0)
    new = task("b", "new", "a")
    term.prepare(Material(new, [], None, None, None, lambda run: old))
    found = term.losses(Computed(new, None, None, batch_of("x", "y"), ModelOutput(logits=mine)))
    log_p = (mine[:, [0, 2]] / 3).log_softmax(-1)  # `outputs` gives the labels in the order of this run
    expected = 0.7 * 9 * F.kl_div(log_p, (theirs / 3).softmax(-1), reduction="none").sum(-1)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ConfigError, match="has the label 'a', and this run has not"):
        term.prepare(Material(task("b", "new"), [], None, None, None, lambda run: old))


def test_remembered_examples_keep_their_logits():
    new, examples = task("new", "b", "a"), [Text(f"replay0:train:{n}", f"text {n}", "a", None) for n in range(2)]
    kept = [np.array([[1.0, 2.0]], dtype=np.float32), np.array([[0.0, -1.0]], dtype=np.float32)]
    old = earlier(task("a", "b"), logits=lambda examples: kept)
    term = Der(alpha=0.5)
    with pytest.raises(ConfigError, match="nothing is remembered"):
        term.prepare(Material(new, [], None, None, None, lambda run: old))
    term.prepare(Material(new, [], None, None, None, lambda run: old, [("runs/a", examples)]))
    assert term.resolved() == {"sha256": ["a"]}
    again = Text("replay0:train:1:2", "text 1", "a", None)  # its third time in an epoch
    batch = batch_of(Text("train:5", "new text", "new", None), examples[0], again)
    outputs = ModelOutput(logits=torch.tensor([[9.0, 9.0, 9.0], [7.0, 2.5, 0.0], [3.0, -1.0, 2.0]]))
    found = term.losses(Computed(new, None, None, batch, outputs))
    assert found.tolist() == [0.0, 0.5 * (0.5**2 + 1.0) / 2, 0.5 * 2.0**2 / 2]
