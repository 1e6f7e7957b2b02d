"""Terms without a perturbation, against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import transformers
from tests.unit.regularizers.conftest import Logistic, batch_of
from torch import nn
from transformers.utils import ModelOutput

from peftlab.regularizers.confidence_penalty import ConfidencePenalty
from peftlab.regularizers.focal import Focal
from peftlab.regularizers.mixup import Mixup
from peftlab.regularizers.regularizer import Computed
from peftlab.tasks.classification import Classification


def computed_at(task, probabilities):
    batch = batch_of([[0]] * len(probabilities))
    logits = torch.tensor([[1 - p, p] for p in probabilities], dtype=torch.float64).log()
    return Computed(task, None, None, batch, ModelOutput(logits=logits))


def test_focal_loss(task):
    losses = Focal(gamma=2.0).losses(computed_at(task, [0.9, 0.5, 1 - 1e-7]))
    assert losses[:2].tolist() == pytest.approx([0.0010536, 0.25 * math.log(2)], rel=1e-4)
    assert losses[2].item() < 1e-19


def test_confidence_penalty(task):
    computed = computed_at(task, [0.5, 0.9])
    entropies = [math.log(2), -0.9 * math.log(0.9) - 0.1 * math.log(0.1)]
    losses = ConfidencePenalty(strength=0.5).losses(computed)
    assert losses.tolist() == pytest.approx([-0.5 * entropy for entropy in entropies], rel=1e-5)
    assert computed.figures["entropy"].item() == pytest.approx(sum(entropies), rel=1e-5)


def test_mixup_is_between_the_examples(computed_for, monkeypatch):
    """At a mixing share of 1 it is the task's loss; else each pair is linear in embeddings and in losses."""
    batch = batch_of([[0], [1, 2]], gold=[1, 0])
    monkeypatch.setattr(torch, "randperm", lambda rows: torch.tensor([1, 0]))
    for kept in (1.0, 0.25):
        monkeypatch.setattr(torch.distributions.Beta, "sample", lambda self, kept=kept: torch.tensor(kept))
        computed = computed_for(batch)
        losses = Mixup().losses(computed)
        sums = torch.tensor([[1.0, 0.0], [-1.0, 3.0]])
        logits = ((kept * sums + (1 - kept) * sums.flip(0)) @ torch.tensor([3.0, 4.0])).double()
        of_gold = torch.stack([(-logits).exp().log1p(), logits.exp().log1p()])  # as class 1, as class 0
        expected = [
            kept * of_gold[0, 0] + (1 - kept) * of_gold[1, 0],
            kept * of_gold[1, 1] + (1 - kept) * of_gold[0, 1],
        ]
        assert losses.tolist() == pytest.approx([float(each) for each in expected], rel=1e-4)


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 0, 1]])
def test_a_partner_counts_by_its_own_weight(task, monkeypatch, rows):
    """Where each row is wholly its partner, the factors of the data weight the very losses of the task."""

    class Sums(Classification):
        def losses(self, outputs, batch):
            return batch.by_example(super().losses(outputs, batch))

    task = Sums(name="classification", selection=task.selection)
    task.labels = ["no", "yes"]
    monkeypatch.setattr(torch, "randperm", lambda rows: torch.tensor([1, 0, 2]))
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda self: torch.tensor(0.0))
    batch = batch_of([[0], [1], [2]], gold=[1, 0, 0])
    examples = rows[-1] + 1
    factors = torch.tensor([1e-6, 1.0, 0.25], dtype=torch.float64)[:examples]
    batch = replace(batch, rows=torch.tensor(rows), weights=batch.weights[:examples], factors=factors)
    batch.examples = batch.examples[:examples]
    model = Logistic()
    computed = Computed(task, model, lambda batch: model(**batch.inputs), batch, model(**batch.inputs))
    of_task = batch.mean(task.losses(computed.outputs, batch))
    torch.testing.assert_close(batch.mean(Mixup().losses(computed)), of_task)


def test_mixup_of_examples_that_weigh_the_same_is_the_same_to_the_bit(computed_for):
    batch = batch_of([[0], [1, 2], [2], [1]], gold=[1, 0, 0, 1])
    found = []
    for factors in (None, torch.ones(4, dtype=torch.float64)):
        torch.manual_seed(0)
        found.append(Mixup().losses(computed_for(replace(batch, factors=factors))))
    assert torch.equal(*found)


def test_mixup_behind_the_last_block_is_between_the_logits_of_a_linear_head(task, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda rows: torch.tensor([1, 0]))
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda self: torch.tensor(0.25))
    torch.manual_seed(0)
    size = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2}
    model = transformers.BertForTokenClassification(transformers.BertConfig(**size)).eval()
    batch = batch_of([[0, 5], [1, 2]], gold=[1, 0])
    outputs = {}

    def forward(batch):
        outputs[layer] = model(**batch.inputs)
        return ModelOutput(logits=outputs[layer].logits[:, 0])

    plain = model(**batch.inputs).logits
    for layer in (0, 1, 2):
        Mixup(layers=[layer]).losses(Computed(task, model, forward, batch, None))
    assert torch.allclose(outputs[2].logits, 0.25 * plain + 0.75 * plain.flip(0), atol=1e-6)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert not torch.allclose(outputs[one].logits, outputs[other].logits, atol=1e-6)
    assert torch.equal(model(**batch.inputs).logits, plain)


def test_mixup_draws_one_of_several_layers():
    model, states = nn.Sequential(nn.ModuleList([nn.Identity(), nn.Identity()])), []
    for _ in range(20):
        with Mixup(layers=[1, 2]).changed_in(model, lambda state: state + 1):
            states.append((float(model[0][0](torch.zeros(1))), float(model[0][1](torch.zeros(1)))))
    assert set(states) == {(1, 0), (0, 1)}


def test_mixup_refuses_layers_that_are_not_there_or_run_twice():
    model = transformers.BertModel(transformers.BertConfig(hidden_size=4, num_attention_heads=1, num_hidden_layers=2))
    assert "no layer 3. Allowed: 0 to 2" in Mixup(layers=[0, 3]).idle(model)
    assert Mixup(layers=[0, 2]).idle(model) is None
    model.gradient_checkpointing_enable()
    assert "gradient_checkpointing" in Mixup(layers=[0, 2]).idle(model)
    assert Mixup().idle(model) is None


def test_mixup_of_a_single_row_is_yet_to_come(computed_for):
    """The last batch of a bucket may be one row, and may be the first of the training."""
    mixup = Mixup()
    for texts, acted in (([[0]], None), ([[0], [1]], {"rows": 2})):
        mixup.losses(computed_for(batch_of(texts)))
        assert mixup.acted() == acted
