"""What an example of a label counts for in a loss, against scikit-learn and torch."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F
from transformers.utils import ModelOutput

from peftlab.errors import ConfigError
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.limits import Limits
from peftlab.tasks.losses.class_weights import balanced, counted, effective_number, settled
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED

TEXTS = [Text(f"train:{n}", "rome " * (n + 1), label) for n, label in enumerate(["neg"] * 5 + ["pos"] * 2)]
SENTENCES = [
    Sentence("train:0", ["Marie", "Curie", "saw", "Rome"], ["B-PER", "I-PER", "O", "B-LOC"]),
    Sentence("train:1", ["nothing", "happened"], ["O", "O"]),
    Sentence("train:2", ["Ada", "\u200b", "and", "Paris"], ["B-PER", "I-PER", "O", "B-LOC"]),
]


@pytest.fixture(params=["classification", "ner"])
def weighted(request, tokenizer, ner, classification):
    """Return a maker of a task with weights, and a maker of batches of its examples."""
    examples = TEXTS if request.param == "classification" else SENTENCES
    make = {"ner": ner, "classification": classification}[request.param]

    def task(weights, **options):
        made = make(class_weights=weights, **options)
        made.settle(examples, encoded(made))
        return made

    def encoded(task):
        long = "truncate" if request.param == "classification" else "split"
        return task.encode(examples, Processor("tokenizer", tokenizer), Limits(64, long))

    return task, lambda task, indices: task.collate(examples, encoded(task), indices), len(examples)


def logits_for(task, batch, seed=0):
    torch.manual_seed(seed)
    return torch.randn(*batch.targets["labels"].shape, len(task.labels))


class TestBalanced:
    @pytest.mark.parametrize("counts", [(5, 2), (1, 1000), (3, 3, 3), (7, 1, 20, 4)])
    def test_it_is_that_of_scikit_learn(self, counts):
        labels = [f"l{n}" for n in range(len(counts))]
        gold = [label for label, count in zip(labels, counts, strict=True) for _ in range(count)]
        expected = compute_class_weight("balanced", classes=np.asarray(labels), y=gold)
        assert list(balanced(dict(zip(labels, counts, strict=True)), labels).values()) == pytest.approx(expected)

    def test_a_label_without_examples_is_told_and_weighs_one(self, caplog):
        assert counted("balanced", {"a": 4, "c": 2}, ["a", "b", "c"]) == {"a": 0.75, "b": 1.0, "c": 1.5}
        assert caplog.messages == ["task.class_weights=balanced: no training example is b: the weight is 1"]

    def test_texts_are_counted_by_label(self, classification):
        task = classification(class_weights="balanced")
        task.settle(TEXTS, None)
        assert task.class_weights == {"neg": 7 / (2 * 5), "pos": 7 / (2 * 2)}

    def test_words_are_counted_by_tag_where_they_have_a_token(self, ner, tokenizer):
        task = ner(class_weights="balanced")
        task.settle(SENTENCES, task.encode(SENTENCES, Processor("tokenizer", tokenizer), Limits(64, "split")))
        each = 9 / 4
        assert task.class_weights == {
            "O": each / 4,
            "B-LOC": each / 2,
            "I-LOC": 1.0,  # of which there is none
            "B-PER": each / 2,
            "I-PER": each / 1,  # the emptied one has no part in the loss
        }


class TestEffectiveNumber:
    def test_by_hand(self):
        # 1, 1.9 and 1.9 effective examples of one, two and two
        weights = effective_number({"a": 1, "b": 2, "c": 2}, ["a", "b", "c"], 0.9)
        assert list(weights.values()) == pytest.approx([3 * 1.9 / 3.9, 3 / 3.9, 3 / 3.9])

    def test_it_lies_between_equal_and_balanced(self):
        counts, labels = {"a": 5000, "b": 10}, ["a", "b"]
        ratios = []
        for beta in (0.1, 0.9, 0.999, 0.999999999):
            weights = effective_number(counts, labels, beta)
            ratios.append(weights["b"] / weights["a"])
            assert sum(weights.values()) == pytest.approx(2)
        assert ratios[0] == pytest.approx(1, abs=1e-6)
        assert ratios == sorted(ratios)
        assert ratios[-1] == pytest.approx(500, rel=1e-3)

    def test_it_is_chosen_with_a_beta_or_without(self, classification):
        for rule, beta in (("effective_number", 0.999), ("effective_number:0.9", 0.9), ("effective_number:.9", 0.9)):
            task = classification(class_weights=rule)
            task.settle(TEXTS, None)
            assert task.class_weights == effective_number({"neg": 5, "pos": 2}, ["neg", "pos"], beta)

    def test_a_label_without_examples_weighs_one(self, caplog):
        assert counted("effective_number", {"a": 4}, ["a", "b"]) == {"a": 1.0, "b": 1.0}
        assert caplog.messages == ["task.class_weights=effective_number: no training example is b: the weight is 1"]

    def test_another_rule_or_beta_is_refused(self, classification):
        for rule in ("effective", "effective_number:1.0", "effective_number:2", "effective_number:", "balanced:0.9"):
            with pytest.raises(ValidationError, match="class_weights"):
                classification(class_weights=rule)
        with pytest.raises(ConfigError, match="all weights are equal"):
            classification(class_weights="effective_number:0.0").settle(TEXTS, None)


NAMES = {"LOC": ["B-LOC", "I-LOC"], "O": ["O"], "B-LOC": ["B-LOC"], "I-LOC": ["I-LOC"]}


class TestSettled:
    @pytest.mark.parametrize(
        ("weights", "expected"),
        [
            ({}, (1, 1, 1)),
            ({"O": 0.5}, (0.5, 1, 1)),
            ({"LOC": 2}, (1, 2, 2)),
            ({"I-LOC": 3, "LOC": 2}, (1, 2, 3)),  # the more exact name counts, in whichever order
            ({"LOC": 2, "I-LOC": 3}, (1, 2, 3)),
            ({"O": 0.1, "B-LOC": 5, "I-LOC": 4}, (0.1, 5, 4)),
        ],
    )
    def test_a_name_stands_for_labels(self, weights, expected):
        labels = ["O", "B-LOC", "I-LOC"]
        assert settled(weights, labels, NAMES) == dict(zip(labels, expected, strict=True))

    @pytest.mark.parametrize("key", ["loc", "B-LOX", "LOCS", "L0C"])
    def test_another_name_is_refused_with_the_nearest(self, key):
        with pytest.raises(ConfigError, match=rf"there is no label '{key}'\..* Allowed: LOC, O, B-LOC, I-LOC"):
            settled({key: 2.0}, ["O"], NAMES)

    @pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan"), "much"])
    def test_a_weight_is_a_positive_number(self, classification, weight):
        with pytest.raises(ValidationError, match="class_weights"):
            classification(class_weights={"pos": weight})

    @pytest.mark.parametrize(("key", "label"), [(0, "0"), (17, "17"), (True, "true"), ("yes", "yes")])
    def test_what_yaml_reads_as_a_number_is_a_label(self, classification, key, label):
        task = classification(labels=(label, "other"), class_weights={key: 2})
        task.settle([], None)
        assert task.class_weights == {label: 2, "other": 1}

    @pytest.mark.parametrize(("weights", "told"), [({"neg": 2, "pos": 2}, True), ("balanced", False), ({}, True)])
    def test_that_all_weigh_the_same_is_told(self, classification, caplog, weights, told):
        with caplog.at_level("INFO", logger="peftlab"):
            classification(class_weights=weights).settle(TEXTS, None)
        assert ["all labels have the same weight" in line for line in caplog.messages] == [True] * told


WEIGHTS = {"classification": [{"neg": 0.3, "pos": 4.0}, "balanced"], "ner": [{"PER": 4.0, "O": 0.1}, "balanced"]}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("number", [0, 1])
class TestLoss:
    def test_it_is_that_of_torch(self, weighted, request, smoothing, number):
        make, batch_of, count = weighted
        weights = WEIGHTS[request.node.callspec.params["weighted"]][number]
        task = make(weights, label_smoothing=smoothing)
        batch = batch_of(task, range(count))
        logits = logits_for(task, batch).double()
        expected = F.cross_entropy(
            logits.flatten(0, -2),
            batch.targets["labels"].flatten(),
            weight=torch.tensor(list(task.class_weights.values()), dtype=torch.float64),
            ignore_index=IGNORED,
            label_smoothing=smoothing,
        )
        assert task.loss(ModelOutput(logits=logits), batch).item() == pytest.approx(expected.item(), rel=1e-6)

    @pytest.mark.one_in(4, "slow")
    def test_the_mean_of_any_parts_is_the_loss_of_the_whole(self, weighted, request, smoothing, number):
        make, batch_of, count = weighted
        task = make(WEIGHTS[request.node.callspec.params["weighted"]][number], label_smoothing=smoothing)

        def loss(indices):
            batch = batch_of(task, indices)
            logits = torch.stack([row_of(example) for example in batch.examples])
            if batch.targets["labels"].ndim > 1:
                logits = logits[:, None].expand(-1, batch.targets["labels"].shape[1], -1)
            return batch.weights.sum().item(), task.loss(ModelOutput(logits=logits), batch).item()

        def row_of(example):
            torch.manual_seed(int(example.id.partition(":")[2]))
            return torch.randn(len(task.labels))

        whole, expected = loss(range(count))
        for first, second in product(range(1, count), range(1, count)):
            if first < second:
                parts = [loss(part) for part in (range(first), range(first, second), range(second, count))]
                assert sum(weight for weight, _ in parts) == pytest.approx(whole, rel=1e-12)
                assert sum(w * value for w, value in parts) / whole == pytest.approx(expected, rel=1e-5)


def test_without_weights_examples_count_as_whole_numbers(weighted):
    make, batch_of, count = weighted
    task = make(None)
    weights = batch_of(task, range(count)).weights.tolist()
    assert weights == [round(weight) for weight in weights]
    assert any(weights)
    assert task.label_weights(torch.zeros(1)) is None
