"""Reweighting and group DRO, against what they are by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.unit.regularizers.conftest import batch_of
from transformers.utils import ModelOutput

from peftlab.errors import ConfigError, SourceError
from peftlab.regularizers.group_dro import GroupDro
from peftlab.regularizers.regularizer import Computed, Material
from peftlab.regularizers.reweight import Reweight
from peftlab.tasks.inputs.texts import Text

TEXTS = ["she is here", "he is here", "he was there", "he went", "he came", "she left", "rain", "he slept"]
GOLD = [1, 1, 0, 0, 0, 0, 1, 1]


@pytest.fixture
def material(task):
    examples = [Text(str(n), text, task.labels[gold]) for n, (text, gold) in enumerate(zip(TEXTS, GOLD, strict=True))]
    return Material(task, examples, lambda: np.ones(len(examples)), None, None)


def computed_at(task, places):
    """Return the pass over the examples at `places`; the loss of the n-th is (n + 1) / 10."""
    losses = torch.tensor([(place + 1) / 10 for place in places], dtype=torch.float64)
    own = [TEXTS.index(TEXTS[place]) for place in places]
    batch = replace(batch_of([[0]] * len(places)), examples=[SimpleNamespace(id=str(place)) for place in own])
    stub = SimpleNamespace(losses=lambda outputs, batch: outputs.logits)
    return Computed(stub, None, None, batch, ModelOutput(logits=losses))


def test_reweighting_makes_labels_independent_of_groups(task, material):
    rule = Reweight(terms="gender")
    rule.prepare(material)
    assert rule.sizes == {"female": 2, "male": 5, "none": 1}
    factor = rule.losses(computed_at(task, range(8))) / torch.arange(1, 9) * 10
    expected = {("female", 1): 2 * 4 / 8, ("female", 0): 2 * 4 / 8, ("male", 1): 5 * 4 / 16, ("male", 0): 5 * 4 / 24}
    expected[("none", 1)] = 1 * 4 / 8
    groups = ["female", "male", "male", "male", "male", "female", "none", "male"]
    assert factor.tolist() == pytest.approx([expected[both] for both in zip(groups, GOLD, strict=True)])
    weight = np.zeros((3, 2))
    for group, gold, own in zip(groups, GOLD, factor.tolist(), strict=True):
        weight[sorted(rule.sizes).index(group), gold] += own
    assert weight[1, 0] == pytest.approx(weight[1, 1])  # of those with both labels
    assert weight.sum(1).tolist() == pytest.approx([2, 5, 0.5])


def test_groups_alone_weigh_the_same(task, material):
    rule = Reweight(terms="gender", balance="groups", share=0.5)
    rule.prepare(material)
    losses = rule.losses(computed_at(task, [0, 1, 6]))
    assert losses.tolist() == pytest.approx([0.5 * 0.1 * 8 / 6, 0.5 * 0.2 * 8 / 15, 0.5 * 0.7 * 8 / 3])
    assert rule.replaces == 0.5


def test_group_dro_weighs_by_the_losses_so_far_and_learns_from_the_step(task, material):
    rule = GroupDro(terms="gender", labels=False, rate=0.5, adjustment=0.3)
    rule.prepare(material)
    computed = computed_at(task, [0, 2, 5])
    losses = rule.losses(computed)
    assert losses.tolist() == pytest.approx([0.1 / 3 * 4, 0.3 / 3 * 8 / 5, 0.6 / 3 * 4])
    rule.after_step(computed.figures)
    # what a group adds to the mean loss of the step over its share, and nothing where it is absent
    means = [0.7 / 3 * 4, 0.3 / 3 * 8 / 5, 0.0]
    grown = [math.exp(0.5 * (mean + 0.3 / math.sqrt(n))) for mean, n in zip(means, (2, 5, 1), strict=True)]
    assert rule.weights.tolist() == pytest.approx([one / sum(grown) for one in grown])
    again = GroupDro(terms="gender", labels=False, sha256=rule.sha256)
    again.prepare(material)
    again.load_state(rule.state())
    assert torch.equal(again.weights, rule.weights)


def test_with_labels_there_is_a_group_of_each(task, material, caplog):
    rule = GroupDro(terms="gender")
    rule.prepare(material)
    assert rule.shares.tolist() == [1 / 8, 1 / 8, 3 / 8, 2 / 8, 1 / 8]  # no, yes of female and male; yes of none
    assert "the smallest of 5 groups has 1 training examples" in caplog.text
    losses = rule.losses(computed_at(task, [0, 2]))
    assert losses.tolist() == pytest.approx([0.1 / 5 * 8, 0.3 / 5 * 8 / 3])


def test_the_estimates_are_right_on_average(task, material):
    """Over all batches of two examples: the losses of the groups, and the objective of the weights."""
    rule = GroupDro(terms="gender", labels=False)
    rule.prepare(material)
    rule.weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    pairs = [(one, other) for one in range(8) for other in range(one)]
    mean = sum(rule.losses(computed_at(task, pair)).mean().item() for pair in pairs) / len(pairs)
    of_group = [(0.1 + 0.6) / 2, (0.2 + 0.3 + 0.4 + 0.5 + 0.8) / 5, 0.7]
    assert mean == pytest.approx(np.dot([0.5, 0.2, 0.3], of_group))


def test_what_has_no_effect_or_has_changed_is_refused(task, material):
    for rule, message in (
        (Reweight(terms="religion"), "all 8 training examples are in the group 'none'"),
        (GroupDro(terms="religion"), "all 8 training examples are in the group 'none'"),
    ):
        with pytest.raises(ConfigError, match=message):
            rule.prepare(material)
    with pytest.raises(SourceError, match="have changed"):
        GroupDro(terms="gender", sha256="0").prepare(material)
    task.labels = ["maybe"]  # as in a task without classes
    with pytest.raises(ConfigError, match="all weights are 1"):
        Reweight(terms="gender").prepare(material)


def test_copies_and_fillers_have_no_group_of_their_own(task, material):
    rule = GroupDro(terms="gender")
    rule.prepare(material)
    batch = batch_of([[0]] * 3)
    batch.examples = []
    assert rule.places_in(batch).tolist() == [0, 0, 0]
