"""Augmented steps: the same examples and shares however a step is divided."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.data.augmentation.augmenter import Augmenter
from peftlab.data.augmentation.batches import AugmentedBatches
from peftlab.data.augmentation.delete import Delete
from peftlab.data.augmentation.typo import Typo
from peftlab.data.batches import Batches
from peftlab.data.batching import Division
from peftlab.tasks.batch import Part
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.limits import Limits
from peftlab.tasks.ner import Ner
from peftlab.tasks.task import Selection

SENTENCES = [
    Sentence(f"train:{n}", ["moved"] * (n + 2) + ["Paris"], ["O"] * (n + 2) + ["B-LOC"], "train.txt", [n + 1] * (n + 3))
    for n in range(9)
]
BATCH = [7, 2, 5, 0, 8]


@pytest.fixture
def batches(processor):
    task = Ner(name="ner", selection=Selection(metric="entity_f1"))
    task.learn_labels({"train": SENTENCES}, None)
    limits = Limits(64, "split")
    augmenter = Augmenter({"delete": Delete(share=0.7, alpha=0.4), "typo": Typo()}, task, processor, limits, 3, None)
    augmenter.prepare(SENTENCES)
    encoded = task.encode(SENTENCES, processor, limits)
    factors = np.linspace(0.5, 1, len(SENTENCES))
    return AugmentedBatches(Batches(task, SENTENCES, encoded, "train", 3, None, factors), augmenter)


def learnt(batches, division):
    """Return, by id, the words of each example and its part of the mean loss of a step, were its loss its weight."""
    parts = [part for rank in division for part in rank.of_training_batch(BATCH, 4)]
    found = {}
    for part in parts:
        batch = batches[part]
        assert batch.part == part
        assert [one.id for one in batch.examples] == [f"train:{n}" for n in part.examples]
        assert batch.weights.tolist() == [len(one.words) for one in batch.examples] or not part.examples
        if part.examples:
            weights = batch.weights * batch.factors
            shares = (batch.scale * weights / weights.sum()).tolist()
            found |= {one.id: (one.words, share) for one, share in zip(batch.examples, shares, strict=True)}
    return found


@pytest.mark.parametrize(("ranks", "accumulate"), [(1, 2), (2, 1), (2, 2), (1, 7)])
def test_a_step_is_the_same_however_it_is_divided(batches, ranks, accumulate):
    whole = learnt(batches, [Division()])
    divided = learnt(batches, [Division(ranks, rank, accumulate) for rank in range(ranks)])
    assert {id: words for id, (words, _) in divided.items()} == {id: words for id, (words, _) in whole.items()}
    assert {id: share for id, (_, share) in divided.items()} == pytest.approx({id: s for id, (_, s) in whole.items()})
    assert sum(share for _, share in whole.values()) == pytest.approx(1)
    assert any(len(whole[f"train:{n}"][0]) < len(SENTENCES[n].words) for n in BATCH)


def test_an_example_is_the_same_in_any_batch(batches):
    (alone,) = batches[Part([5], [5], 4)].examples
    assert alone == batches[Part(BATCH, BATCH, 4)].examples[BATCH.index(5)]


def test_evaluation_is_not_augmented(batches):
    assert batches[Part([5, 2], [5, 2])].examples == [SENTENCES[5], SENTENCES[2]]


def test_random_numbers_of_a_task_belong_to_the_example_in_the_split(batches, monkeypatch):
    drawn = {}

    def collate(self, examples, encoded, indices, random=None):
        drawn.update({examples[i].id: random(i).integers(2**40) for i in indices})
        return real(self, examples, encoded, indices, random)

    real = Ner.collate
    monkeypatch.setattr(Ner, "collate", collate)
    batches[Part(BATCH, BATCH, 4)]
    first = dict(drawn)
    Batches.__getitem__(batches, Part([2, 5], [2, 5], 4))
    assert {id: drawn[id] for id in ("train:2", "train:5")} == {id: first[id] for id in ("train:2", "train:5")}
