"""Elastic weight consolidation against solutions in closed form."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from peftlab.errors import ConfigError
from peftlab.regularizers.earlier import Importance
from peftlab.regularizers.ewc import Ewc
from peftlab.regularizers.regularizer import Computed, Material
from peftlab.tasks.classification import Classification
from peftlab.tasks.task import Encoded, Selection
from peftlab.training.fisher import fisher


class Model(nn.Module):
    """A model with one trained weight."""

    def __init__(self, weight):
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(weight, dtype=torch.float64))


def earlier(name, weight, importance, labels=(), output=()):
    own = {"w": torch.as_tensor(weight).double()}, {"w": torch.as_tensor(importance).double()}
    importance = Importance(*own, frozenset(output))
    task = SimpleNamespace(labels=[*labels])
    places = lambda all_labels: [n for n, label in enumerate(all_labels) if label in labels]  # noqa: E731
    return SimpleNamespace(
        sha256=name,
        place=name,
        task=task,
        weights_sha256="",
        begun_with=True,
        importance=lambda _: importance,
        places=places,
    )


def ewc(model, runs, labels=(), **options):
    term = Ewc(previous=[run.place for run in runs], **{"strength": 1.0} | options)
    by_name = {run.place: run for run in runs}
    term.prepare(Material(SimpleNamespace(labels=[*labels]), [], None, None, None, by_name.__getitem__))
    term.set_up(model)
    return term


def value(term, model, weights=(1.0, 3.0)):
    batch = SimpleNamespace(weights=torch.tensor(weights))
    losses = term.losses(Computed(None, model, None, batch, None))
    assert losses.shape == (len(weights),)
    return losses.sum() / batch.weights.sum()


def test_it_gives_the_joint_solution_of_linear_regression_with_orthogonal_designs():
    """There the Fisher information of all old examples is diagonal, and the quadratic differs from the old loss by a
    constant."""
    random = np.random.default_rng(0)
    designs = [np.linalg.qr(random.normal(size=(20, 4)))[0] * random.uniform(1, 3, 4) for _ in range(3)]
    targets = [random.normal(size=20) for _ in designs]
    solutions = [np.linalg.lstsq(x, y, rcond=None)[0] for x, y in zip(designs, targets, strict=True)]
    joint = np.linalg.lstsq(np.concatenate(designs), np.concatenate(targets), rcond=None)[0]
    runs = [earlier(str(n), solutions[n], (designs[n] ** 2).sum(0)) for n in range(2)]
    model = Model(joint)
    x, y = torch.from_numpy(designs[2]), torch.from_numpy(targets[2])
    loss = ((x @ model.w - y) ** 2).sum() / 2 + value(ewc(model, runs), model)
    loss.backward()
    assert model.w.grad.abs().max() < 1e-13


def test_online_there_is_one_quadratic_around_the_last_run():
    runs = [earlier("a", [1.0, 1.0], [1.0, 4.0]), earlier("b", [2.0, 0.0], [2.0, 0.0])]
    model = Model([0.0, 0.0])
    assert value(ewc(model, runs, strength=3.0), model).item() == pytest.approx(3 * (1 + 4 + 2 * 4) / 2)
    assert value(ewc(model, runs, strength=3.0, online=0.5), model).item() == pytest.approx(3 * (2 + 0.5) * 4 / 2)


def test_rows_are_matched_by_label_and_new_ones_are_free():
    old = earlier("a", [[1.0, 1.0], [2.0, 2.0]], [[1.0, 1.0], [10.0, 10.0]], ["x", "y"], ["w"])
    model = Model(torch.zeros(3, 2))
    term = ewc(model, [old], ["y", "new", "x"])
    value(term, model).backward()
    assert model.w.grad.tolist() == [[-20.0, -20.0], [0.0, 0.0], [-1.0, -1.0]]


@pytest.mark.parametrize(
    ("old", "labels", "message"),
    [
        (earlier("a", [1.0], [0.0]), [], "no answer of a depends on its weights"),
        (earlier("a", [1.0, 2.0], [1.0, 1.0]), [], "a and this run train no weight of the same name and shape"),
        (earlier("a", [[1.0], [1.0]], [[1.0], [1.0]], ["x", "y"], ["w"]), ["u"], "train no weight of the same name"),
    ],
)
def test_what_has_nothing_to_draw_to(old, labels, message):
    with pytest.raises(ConfigError, match=message):
        ewc(Model([0.0]), [old], labels)


def test_other_runs_than_at_the_beginning_are_refused():
    with pytest.raises(ConfigError, match=r"previous=a: not the runs .* whose digests are b"):
        ewc(Model([0.0]), [earlier("a", [1.0], [1.0])], sha256=["b"])
    with pytest.raises(ConfigError, match="previous is empty"):
        ewc(Model([0.0]), [])


class Logistic(nn.Module):
    """Two classes, the logit of the second is ``w x``."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        logit = x @ self.weight
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(logit), logit], -1))


class OfNumbers(Classification):
    def apart(self, examples, encoded, indices, random=None):
        x = torch.tensor([examples[n] for n in indices])
        targets = {"labels": torch.zeros(len(x), dtype=torch.long)}
        batch = SimpleNamespace(inputs={"x": x}, targets=targets, weights=torch.ones(len(x)))
        batch.to = lambda device: batch
        return batch


def fisher_of(weight, examples):
    task = OfNumbers(name="classification", selection=Selection(metric="macro_f1"))
    nothing = Encoded({}, np.zeros(0), 0, {})
    return fisher(Logistic(weight), task, examples, nothing, range(len(examples)))["weight"]


@pytest.mark.exhaustive
def test_the_fisher_information_of_a_logistic_model():
    """It is the mean of ``p (1 - p) x^2``; gold labels, here always the less probable, would give ``p^2 x^2``."""
    random = np.random.default_rng(1)
    examples = random.choice([-2.0, -1.0, 1.0, 2.0], size=(4000, 1)).astype(np.float32)
    p = 1 / (1 + np.exp(-1.5 * examples))
    expected = float((p * (1 - p) * examples**2).mean())
    assert fisher_of([1.5], examples.tolist()).item() == pytest.approx(expected, rel=0.06)
    half = fisher_of([0.0, 0.0], [[1.0, 2.0], [3.0, 0.0]])  # whichever label is drawn, the gradient is x / 2
    torch.testing.assert_close(half, torch.tensor([(1 + 9) / 8, 4 / 8]))
