"""The closed forms of distillation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from peftlab.errors import ConfigError
from peftlab.regularizers.distil import Distil
from peftlab.regularizers.regularizer import Computed, Material
from peftlab.tasks.batch import Batch
from peftlab.tasks.classification import Classification
from peftlab.tasks.multilabel import MultiLabel
from peftlab.tasks.ner import Ner
from peftlab.tasks.regression import Regression
from peftlab.tasks.task import Selection
from peftlab.training.objective import Objective

ALPHA, T = 0.3, 3.0


class Teacher(SimpleNamespace):
    def __init__(self, outputs):
        super().__init__(sha256="a", place="runs/a", reads_alike=True, model=None, outputs=lambda batch: outputs)


def distil(theirs, **options):
    term = Distil(teacher="a", **{"alpha": ALPHA, "temperature": T} | options)
    term.prepare(Material(None, [], lambda: None, None, lambda run: Teacher(theirs)))
    return term


def batch_of(labels, weights, **inputs):
    rows = torch.arange(len(weights))
    return Batch(inputs, {"labels": labels}, torch.tensor(weights).double(), rows=rows, examples=["a", "b"], tokens=2)


def kullback_leibler(theirs, mine):
    return F.kl_div((mine / T).log_softmax(-1), (theirs / T).softmax(-1), reduction="none").sum(-1)


def test_a_share_of_the_loss_is_replaced():
    task = Classification(name="classification", selection=Selection(metric="macro_f1"))
    task.labels = ["a", "b", "c"]
    mine, theirs = torch.randn(2, 2, 3)
    gold = torch.tensor([0, 2])
    batch, outputs = batch_of(gold, [1.0, 1.0]), ModelOutput(logits=mine)
    term = distil(ModelOutput(logits=theirs))
    method = SimpleNamespace(penalty=lambda model: None)
    total = Objective(task, method, None, {"distil": term})(lambda _: outputs, batch).total
    expected = (1 - ALPHA) * F.cross_entropy(mine, gold) + ALPHA * T**2 * kullback_leibler(theirs, mine).mean()
    torch.testing.assert_close(total, expected)
    assert torch.equal(outputs.logits, mine)  # they are read by others too


def test_of_words_only_those_with_a_label_count():
    task = Ner(name="ner", selection=Selection(metric="entity_f1"))
    task.labels = ["O", "B-X", "I-X"]
    mine, theirs = torch.randn(2, 2, 4, 3)
    labels = torch.tensor([[0, 1, -100, -100], [-100, 2, 0, 0]])
    batch = batch_of(labels, [2.0, 3.0])
    found = distil(ModelOutput(logits=theirs)).losses(Computed(task, None, None, batch, ModelOutput(logits=mine)))
    expected = ALPHA * T**2 * (kullback_leibler(theirs, mine) * (labels != -100)).sum(-1)
    torch.testing.assert_close(found, expected)


def test_labels_that_do_not_exclude_each_other_have_distributions_of_their_own():
    task = MultiLabel(name="multilabel", selection=Selection(metric="macro_f1"))
    task.labels = ["a", "b", "c"]
    mine, theirs = torch.randn(2, 2, 3)
    batch = batch_of(torch.zeros(2, 3), [1.0, 1.0])
    found = distil(ModelOutput(logits=theirs)).losses(Computed(task, None, None, batch, ModelOutput(logits=mine)))
    p, q = (theirs / T).sigmoid(), (mine / T).sigmoid()
    of_labels = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(found, ALPHA * T**2 * of_labels.mean(-1), rtol=1e-4, atol=1e-5)


def test_a_regression_has_half_the_squared_difference_at_any_temperature():
    task = Regression(name="regression", selection=Selection(metric="rmse"))
    mine, theirs = torch.randn(2, 2, 1)
    batch = batch_of(torch.zeros(2), [1.0, 1.0])
    for temperature in (1.0, 5.0):
        term = distil(ModelOutput(logits=theirs), temperature=temperature)
        found = term.losses(Computed(task, None, None, batch, ModelOutput(logits=mine)))
        torch.testing.assert_close(found, ALPHA * (mine - theirs).squeeze(-1) ** 2 / 2)


class Layers(nn.Module):
    """A model of layers that take words for numbers, and hand on more than hidden states."""

    def __init__(self, count, width=4):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)
        self.layers = nn.ModuleList([Layer(width) for _ in range(count)])

    def forward(self, states):
        for layer in self.layers:
            states = layer(states)[0]
        return ModelOutput(logits=states[..., :1])


class Layer(nn.Linear):
    def __init__(self, width):
        super().__init__(width, width)

    def forward(self, states):
        return super().forward(states), "attention"


class TestHiddenStates:
    def term(self, teacher, **options):
        term = Distil(teacher="a", hidden=2.0, **options)
        answering = Teacher(None)
        answering.model, answering.outputs = teacher, lambda batch: teacher(batch.inputs["states"])
        term.prepare(Material(None, [], lambda: None, None, lambda run: answering))
        return term

    def test_each_layer_is_compared_with_the_one_at_its_depth(self):
        model, teacher, states = Layers(2), Layers(4), torch.randn(2, 3, 4)
        task = Ner(name="ner", selection=Selection(metric="entity_f1"))
        task.labels = ["O"]
        mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
        batch = batch_of(torch.where(mask > 0, 0, -100), [2.0, 3.0], attention_mask=mask, states=states)
        own, theirs = [], []
        for each, kept in ((model, own), (teacher, theirs)):
            seen = states
            for layer in each.layers:
                seen = layer(seen)[0]
                kept.append(seen)
        term = self.term(teacher, alpha=0.0)
        assert term.off is None
        assert distil(None, alpha=0.0).off == "alpha=0"
        term.set_up(model)
        outputs = model(states)
        model(states + 1)  # another pass, of another term
        found = term.losses(Computed(task, None, None, batch, outputs))
        cosine = sum(F.cosine_similarity(own[n], theirs[2 * n + 1], dim=-1) for n in (0, 1)) / 2
        expected = 2.0 * ((1 - cosine) * mask).sum(-1) / mask.sum(-1) * torch.tensor([2.0, 3.0])
        torch.testing.assert_close(found, expected)
        outputs["layer_states"] = ()
        with pytest.raises(ConfigError, match=r"trainer\.cache_activations=false"):
            term.losses(Computed(task, None, None, batch, outputs))

    def test_the_first_layers_of_a_deeper_model_have_the_first_of_the_teacher(self):
        term, states = self.term(None, alpha=0.0), torch.randn(4, 1, 1, 3)
        own, theirs = ModelOutput(layer_states=tuple(states)), ModelOutput(layer_states=(states[0], states[1]))
        batch = Batch({}, {}, torch.ones(1).double(), rows=torch.zeros(1).long(), examples=["a"], tokens=1)
        found = float(term._distances(own, theirs, batch))
        pairs = zip(states, states[[0, 0, 1, 1]], strict=True)
        expected = sum(1 - F.cosine_similarity(*pair, dim=-1) for pair in pairs) / 4
        assert found == pytest.approx(float(expected), rel=1e-5)

    def test_of_another_width_they_are_refused(self):
        with pytest.raises(ConfigError, match="hidden states of 6 numbers cannot be compared with the teacher's of 4"):
            self.term(Layers(2)).set_up(Layers(2, 6))


def test_a_teacher_must_be_named_and_be_the_same_when_the_run_goes_on():
    material = Material(None, [], lambda: None, None, lambda run: Teacher(None))
    with pytest.raises(ConfigError, match="teacher is null"):
        Distil().prepare(material)
    with pytest.raises(ConfigError, match="not the run that this one began with"):
        Distil(teacher="a", sha256="b").prepare(material)
    same = Distil(teacher="a", sha256="a")
    same.prepare(material)
    assert same.resolved() == {"teacher": "runs/a", "sha256": "a"}
