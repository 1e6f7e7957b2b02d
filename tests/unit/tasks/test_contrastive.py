"""Contrastive fine-tuning: which texts are drawn together, and the losses of a group, written out pair by pair."""

from __future__ import annotations

from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer

from peftlab.data.batching import generator_of
from peftlab.errors import ConfigError, DataError
from peftlab.tasks.contrastive import Contrastive
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection

LABELS = "abc"
EXAMPLES = [Text(f"train:{n}", f"{'ada' * (n % 3 + 1)} {n}", LABELS[n % 3]) for n in range(10)]
EXAMPLES.append(Text("train:10", "nothing", None))


@pytest.fixture(scope="module")
def processor(tiny_model):
    return Processor("tokenizer", AutoTokenizer.from_pretrained(tiny_model))


def task(examples=EXAMPLES, **options):
    made = Contrastive(name="contrastive", selection=Selection(metric="accuracy"), **options)
    made.learn_labels({"train": [one for one in examples if one.label is not None]}, None)
    made.settle(examples, None)
    return made


def batch_of(contrastive, processor, indices, epoch=0, examples=EXAMPLES):
    encoded = contrastive.encode(examples, processor, Limits(40, "truncate"))
    return contrastive.collate(examples, encoded, indices, partial(generator_of, 7, epoch))


def outputs_of(batch):
    """Return embeddings that are a function of the text alone."""
    vectors = [
        torch.randn(8, generator=torch.Generator().manual_seed(int(row.sum()))) for row in batch.inputs["input_ids"]
    ]
    return SimpleNamespace(embeddings=F.normalize(torch.stack(vectors), dim=-1))


def groups_of(contrastive, examples, indices=(0,), epoch=0):
    return [contrastive._group(examples, i, generator_of(7, epoch, i)) for i in indices]


def test_a_group_has_half_as_many_classes_as_texts():
    for partners, sizes in {3: [2, 2], 4: [2, 3], 5: [2, 2, 2], 7: [2, 3, 3], 11: [4, 4, 4]}.items():
        (group,) = groups_of(task(partners=partners), EXAMPLES)
        assert group[0] == 0
        assert len(group) == 1 + partners
        assert sorted(Counter(EXAMPLES[n].label for n in group).values()) == sizes


def test_no_text_comes_again_while_there_are_others():
    for partners in (3, 7, 8):
        for group in groups_of(task(partners=partners), EXAMPLES, range(10)):
            assert len({*group}) == len(group)
    # four of a, three each of b and c: 14 texts take five of a class
    (group,) = groups_of(task(partners=14), EXAMPLES)
    assert {*group} == {*range(10)}


def test_one_shot_is_contrasted_with_itself_and_unlabelled_texts_with_nothing():
    shots = EXAMPLES[:3]
    (group,) = groups_of(task(shots, partners=5), shots)
    assert sorted(group) == [0, 0, 1, 1, 2, 2]
    assert groups_of(task(partners=3), EXAMPLES, [10]) == [[10] * 4]


def test_groups_are_drawn_by_epoch_and_example_alone(processor):
    contrastive = task()
    whole = batch_of(contrastive, processor, [1, 4, 8])
    parts = [batch_of(contrastive, processor, part) for part in ([1], [4, 8])]
    width = whole.inputs["input_ids"].shape[1]
    rows = [F.pad(part.inputs["input_ids"], (0, width - part.inputs["input_ids"].shape[1])) for part in parts]
    assert torch.equal(torch.cat(rows), whole.inputs["input_ids"])
    other = batch_of(contrastive, processor, [1, 4, 8], epoch=1)
    assert not torch.equal(
        other.inputs["input_ids"], whole.inputs["input_ids"][:, : other.inputs["input_ids"].shape[1]]
    )


@pytest.mark.parametrize("options", [{"temperature": 0.3}, {"objective": "cosine"}])
def test_the_loss_of_each_example_pair_by_pair(processor, options):
    contrastive = task(class_weights={"a": 2.0}, **options)
    batch = batch_of(contrastive, processor, [0, 5, 10])
    outputs = outputs_of(batch)
    expected = []
    for place, index in enumerate([0, 5, 10]):
        own = (batch.rows == place).nonzero().flatten().tolist()
        labels, vectors = [batch.targets["classes"][n].item() for n in own], [outputs.embeddings[n] for n in own]
        pairs = [(m, n) for m in range(len(own)) for n in range(len(own)) if m != n]
        if EXAMPLES[index].label is None:
            expected.append(0.0)
        elif contrastive.objective == "cosine":
            errors = {True: [], False: []}
            for m, n in pairs:
                same = labels[m] == labels[n]
                errors[same].append((float(vectors[m] @ vectors[n]) - same) ** 2)
            expected.append((np.mean(errors[True]) + np.mean(errors[False])) / 2)
        else:
            terms = []
            for m in range(len(own)):
                others = [n for n in range(len(own)) if n != m]
                scores = torch.tensor([float(vectors[m] @ vectors[n]) / 0.3 for n in others])
                log_p = scores.log_softmax(0).tolist()
                terms.append(-np.mean([p for p, n in zip(log_p, others, strict=True) if labels[n] == labels[m]]))
            expected.append(np.mean(terms))
    weights = torch.tensor([2.0, 1.0, 0.0])
    assert batch.weights.tolist() == weights.tolist()
    torch.testing.assert_close(
        contrastive.losses(outputs, batch), torch.tensor(expected, dtype=torch.float32) * weights
    )
    mean = (torch.tensor(expected) * weights).sum() / 3
    assert contrastive.loss(outputs, batch).item() == pytest.approx(mean.item(), rel=1e-5)


def test_cosines_are_compared_in_fp32_whatever_a_model_computes_in(processor):
    contrastive = task()
    batch = batch_of(contrastive, processor, [0, 5])
    outputs = outputs_of(batch)
    expected = contrastive.losses(outputs, batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(contrastive.losses(outputs, batch), expected)


def test_a_batch_cut_in_halves_gives_the_same_losses(processor):
    contrastive = task()
    whole = batch_of(contrastive, processor, [3, 7])
    halves = [batch_of(contrastive, processor, [n]) for n in (3, 7)]
    losses = torch.cat([contrastive.losses(outputs_of(half), half) for half in halves])
    torch.testing.assert_close(contrastive.losses(outputs_of(whole), whole), losses)


def test_regularisers_of_distributions_are_refused_in_training(processor):
    batch = batch_of(task(), processor, [0])
    with pytest.raises(ConfigError, match="trains embeddings"):
        task().distributions(outputs_of(batch), batch)


def test_one_label_alone_is_refused():
    made = task()
    with pytest.raises(DataError, match="have 1 label"):
        made.settle(EXAMPLES[:1], None)


@pytest.mark.parametrize("classifier", ["logistic", "prototype"])
def test_the_head_is_fitted_in_place_among_the_trained_weights(classifier):
    contrastive = task(classifier=classifier)
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, -100])
    embeddings = F.normalize(F.one_hot(labels.clamp(min=0), 4) + 0.1 * torch.randn(7, 4, generator=generator), dim=-1)
    seen = [
        (
            SimpleNamespace(embeddings=embeddings[part]),
            SimpleNamespace(targets={"labels": labels[part]}, weights=(labels[part] >= 0).double(), factors=None),
        )
        for part in (slice(0, 4), slice(4, 7))
    ]
    model = torch.nn.ModuleDict({"classifier": torch.nn.Linear(4, 3), "kept": torch.nn.Linear(4, 3)})
    before = model["kept"].weight.clone()
    contrastive.fit_head(model, iter(seen))
    assert model["classifier"](embeddings[:6]).argmax(-1).tolist() == labels[:6].tolist()
    assert torch.equal(model["kept"].weight, before)
