from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.unit.tasks.conftest import answers, kept, reply
from torch.distributions import Bernoulli, kl_divergence
from transformers import BertConfig, BertForSequenceClassification

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.limits import Limits
from peftlab.tasks.multilabel import MultiLabel, _rounded
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection

EXAMPLES = [
    LabelledText("train:0", "the rome", ("joy", "love"), file="f.csv", line=2),
    LabelledText("train:1", "paris", (), file="f.csv", line=3),
    LabelledText("train:2", "nothing happened today .", ("love",), file="f.csv", line=4),
]
LOGITS = torch.tensor([[2.0, 0.5], [-1.0, 0.1], [-3.0, -0.2]])


def bare(**options) -> MultiLabel:
    return MultiLabel(name="multilabel", selection=Selection(metric="ranking_average_precision"), **options)


def learnt(**options) -> MultiLabel:
    task = bare(**options)
    task.learn_labels({"train": EXAMPLES}, None)
    task.settle(EXAMPLES, None)
    return task


def batch_of(task, tokenizer, examples=EXAMPLES):
    encoded = task.encode(examples, Processor("tokenizer", tokenizer), Limits(64, "truncate"))
    return task.collate(examples, encoded, range(len(examples)))


class TestLabels:
    def test_they_are_those_of_the_training_split(self):
        assert learnt().labels == ["joy", "love"]

    @pytest.mark.parametrize(
        ("examples", "declared", "message"),
        [
            (
                [LabelledText("train:0", "a", ("luv",), file="f.csv", line=2)],
                ["love"],
                "f.csv:2: unknown label 'luv'.*love",
            ),
            ([LabelledText("train:0", "a", ())], None, "has no label; a classifier needs one or more"),
        ],
    )
    def test_others_are_refused(self, examples, declared, message):
        with pytest.raises(DataError, match=message):
            bare().learn_labels({"train": examples}, declared)

    @pytest.mark.parametrize("options", [{"threshold": {"hate": 0.1}}, {"pos_weight": {"hate": 2}}])
    def test_an_option_for_no_label_is_refused(self, options):
        with pytest.raises(ConfigError, match=r"task\.(threshold|pos_weight): there is no label 'hate'"):
            learnt(**options)


class TestLosses:
    def test_they_are_those_of_transformers(self, tokenizer):
        task, batch = learnt(), None
        batch = batch_of(task, tokenizer)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
            **task.head.settings(task.labels),
        )  # fmt: skip
        model = BertForSequenceClassification(config).eval()
        outputs = model(**batch.inputs, **batch.targets)
        assert config.problem_type == "multi_label_classification"
        torch.testing.assert_close(task.loss(outputs, batch), outputs.loss)

    def test_no_label_is_gold_and_no_gold_is_none(self, tokenizer):
        task = learnt()
        batch = batch_of(task, tokenizer, [*EXAMPLES, LabelledText("text:0", "rome", None)])
        losses = task.losses(SimpleNamespace(logits=torch.zeros(4, 2)), batch)
        assert batch.weights.tolist() == [1, 1, 1, 0]
        assert losses.tolist() == pytest.approx([0.693147] * 3 + [0])

    def test_positive_labels_weigh_more(self, tokenizer):
        losses = [
            task.losses(SimpleNamespace(logits=LOGITS), batch_of(task, tokenizer))
            for task in (learnt(), learnt(pos_weight=3), learnt(pos_weight={"love": 3}))
        ]
        assert (losses[1] >= losses[0]).tolist() == [True, True, True]
        assert (losses[1][1], losses[2][1]) == (losses[0][1], losses[0][1])
        assert losses[0][0] < losses[2][0] < losses[1][0]

    def test_balanced_is_negatives_over_positives(self):
        assert learnt(pos_weight="balanced").settled() == {"pos_weight": {"joy": 2.0, "love": 0.5}}
        assert learnt().settled() == {}

    def test_a_label_of_every_text_cannot_be_balanced(self):
        task = bare(pos_weight="balanced")
        task.learn_labels({"train": EXAMPLES[:1]}, None)
        with pytest.raises(ConfigError, match="every training example has joy, love"):
            task.settle(EXAMPLES[:1], None)

    def test_divergences_are_of_bernoulli_distributions(self, tokenizer):
        task = learnt()
        batch, others = batch_of(task, tokenizer), torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
        divergences = task.divergences(SimpleNamespace(logits=LOGITS), SimpleNamespace(logits=others), batch)
        expected = kl_divergence(Bernoulli(logits=LOGITS), Bernoulli(logits=others)).mean(-1)
        torch.testing.assert_close(divergences, expected)
        with pytest.raises(ConfigError, match="defines no distributions"):
            task.distributions(SimpleNamespace(logits=LOGITS), batch)


class TestAnswers:
    def test_by_hand(self, tokenizer):
        task = learnt()
        first, second, third = answers(task, LOGITS, batch_of(task, tokenizer))
        assert first["predicted"] == first["gold"] == ["joy", "love"]
        assert first["probability"] == [0.8807971, 0.6224593]
        assert second["predicted"] == ["love"]
        assert (third["predicted"], third["probability"], third["gold"]) == ([], [], ["love"])

    def test_thresholds_that_are_chosen_or_learnt(self, tokenizer):
        for task in (learnt(threshold={"love": 0.6}), learnt()):
            task.decisions = {"thresholds": {"joy": 0.5, "love": 0.6}} if task.decides else {}
            given = [answer["predicted"] for answer in answers(task, LOGITS, batch_of(task, tokenizer))]
            assert given == [["joy", "love"], [], []]
            assert task.scorer.thresholds == {"joy": 0.5, "love": 0.6}

    def test_a_pair_and_its_reply(self, tokenizer):
        task = learnt()
        batch = batch_of(task, tokenizer, [LabelledText("text:0", "rome", None, "paris")])
        assert answers(task, LOGITS[:1], batch)[0]["input"] == ["rome", "paris"]
        assert reply(task, LOGITS[:1], batch) == {
            "predicted": ["joy", "love"],
            "probability": [0.8807971, 0.6224593],
            "probabilities": {"joy": 0.8807971, "love": 0.6224593},
        }

    def test_probabilities_are_rounded_as_decimal_numbers_are(self):
        of_all = np.random.default_rng(0).random(500) ** 3
        of_all[:3] = 0.0, 1.0, 1e-30
        assert _rounded(of_all)[3:].tolist() == [float(f"{one:.7g}") for one in of_all[3:]]
        assert _rounded(of_all)[:3].tolist() == [0.0, 1.0, 0.0]

    def test_a_label_that_is_not_given_its_due_is_noticed(self, tokenizer):
        task = learnt()
        first, *_ = json.loads(json.dumps(kept(task, LOGITS, batch_of(task, tokenizer))))
        assert task.is_consistent(first, {})
        assert not task.is_consistent({**first, "predicted": ["joy"]}, {})
        assert not task.is_consistent(first, {"thresholds": {"joy": 0.9}})
