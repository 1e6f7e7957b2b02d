from __future__ import annotations

import json
import math

import pytest
import torch
from tests.unit.tasks.conftest import answers, kept, reply
from torch.nn import functional as F
from transformers.utils import ModelOutput

from peftlab.errors import ConfigError, DataError
from peftlab.scores.class_scores import ClassScores
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Selection

EXAMPLES = [
    Text("train:0", "the rome", "neg", file="f.csv", line=2),
    Text("train:1", "paris", "pos", file="f.csv", line=3),
    Text("train:2", "nothing happened today .", "neg", file="f.csv", line=4),
]


def bare(metric="macro_f1", **options) -> Classification:
    return Classification(name="classification", selection=Selection(metric=metric), **options)


@pytest.fixture
def task() -> Classification:
    task = bare()
    task.learn_labels({"train": EXAMPLES}, None)
    return task


def batch_of(task, tokenizer, examples=EXAMPLES, indices=None):
    encoded = task.encode(examples, Processor("tokenizer", tokenizer), Limits(64, "truncate"))
    return task.collate(examples, encoded, range(len(examples)) if indices is None else indices)


class TestCollate:
    def test_a_batch_by_hand(self, task, tokenizer):
        batch = batch_of(task, tokenizer, indices=[1, 0])
        ids = tokenizer.convert_tokens_to_ids
        assert batch.inputs.keys() == {"input_ids", "attention_mask"}
        assert batch.inputs["input_ids"].tolist() == [
            ids(["[CLS]", "paris", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]),
            ids(["[CLS]", "t", "##h", "##e", "rome", "[SEP]"]),
        ]
        assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
        assert batch.targets["labels"].tolist() == [1, 0]
        assert batch.tokens == 9
        assert batch.examples == [EXAMPLES[1], EXAMPLES[0]]
        assert batch.weights.tolist() == [1, 1]

    def test_pairs_come_with_their_types(self, task, tokenizer):
        pairs = [Text("train:0", "rome", "pos", "paris"), Text("train:1", "the", "neg", "paris")]
        inputs = batch_of(task, tokenizer, pairs).inputs
        assert inputs["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1]]

    def test_without_gold_there_is_no_label(self, task, tokenizer):
        assert batch_of(task, tokenizer, [Text("text:0", "rome", None)]).targets["labels"].tolist() == [IGNORED]

    def test_a_text_is_not_split(self, task, tokenizer):
        with pytest.raises(ConfigError, match=r"data\.long=split: .* is one row; set data\.long=truncate"):
            task.encode(EXAMPLES, Processor("tokenizer", tokenizer), Limits(64, "split"))


class TestLost:
    @pytest.mark.parametrize(
        ("text", "max_tokens", "lost"),
        [
            (Text("text:1", "rome", None), 64, {}),
            (Text("text:1", "rome in paris", None), 5, {}),
            (Text("text:1", "rome in paris", None), 4, {"truncated": True, "lost_tokens": 1}),
            (Text("text:1", "rome " * 40, None), 4, {"truncated": True, "lost_tokens": 38}),
            (Text("text:1", "\u200b", None), 64, {"empty": True}),
            (Text("text:1", "", None), 64, {"empty": True}),
        ],
    )
    def test_it_is_counted_by_text(self, task, tokenizer, text, max_tokens, lost):
        encoded = task.encode(
            [Text("text:0", "in", None), text], Processor("tokenizer", tokenizer), Limits(max_tokens, "truncate")
        )
        assert [task.lost(encoded, n) for n in range(2)] == [{}, lost]
        assert [n for n in task.all_lost(encoded).values() if n] == [1] * bool(lost) + [
            n for n in (lost.get("lost_tokens"),) if n
        ]

    def test_of_a_pair(self, task, tokenizer):
        pairs = [Text("text:0", "rome in", None, "paris"), Text("text:1", "rome", None, "paris")]
        encoded = task.encode(pairs, Processor("tokenizer", tokenizer), Limits(5, "truncate"))
        assert [task.lost(encoded, n) for n in range(2)] == [{"truncated": True, "lost_tokens": 1}, {}]


class TestLoss:
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_it_is_the_mean_cross_entropy(self, tokenizer, smoothing):
        task = bare(label_smoothing=smoothing)
        task.learn_labels({"train": EXAMPLES}, None)
        batch = batch_of(task, tokenizer)
        logits = torch.tensor([[1.0, -1], [0, 2], [3, 1]])
        log_p = logits.double() - logits.double().exp().sum(-1, keepdim=True).log()
        gold = [log_p[0, 0], log_p[1, 1], log_p[2, 0]]
        expected = -(1 - smoothing) * sum(gold) / 3 - smoothing * log_p.mean()
        assert task.loss(ModelOutput(logits=logits), batch).item() == pytest.approx(expected.item(), rel=1e-6)

    def test_half_precision_logits_lose_nothing_more(self, task, tokenizer):
        batch = batch_of(task, tokenizer)
        logits = torch.randn(3, 2).bfloat16()
        assert task.loss(ModelOutput(logits=logits), batch).dtype == torch.float32
        assert torch.equal(
            task.loss(ModelOutput(logits=logits), batch), F.cross_entropy(logits.float(), batch.targets["labels"])
        )


class TestDecode:
    def test_predictions(self, task, tokenizer):
        batch = batch_of(task, tokenizer)
        logits = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]).log()
        predictions = answers(task, logits, batch)
        assert [p.pop("probability") for p in predictions] == pytest.approx([0.9, 0.8, 0.7])
        assert predictions == [
            {"id": "train:0", "input": "the rome", "gold": "neg", "predicted": "neg"},
            {"id": "train:1", "input": "paris", "gold": "pos", "predicted": "pos"},
            {"id": "train:2", "input": "nothing happened today .", "gold": "neg", "predicted": "pos"},
        ]
        scorer = task.scorer
        assert scorer.scores(scorer.total(predictions))["accuracy"] == pytest.approx(2 / 3)

    @pytest.mark.parametrize("top_k", [None, 1, 2])
    def test_what_a_run_keeps(self, tokenizer, top_k):
        task = bare(top_k=top_k)
        task.learn_labels({"train": EXAMPLES}, None)
        batch = batch_of(
            task, tokenizer, [Text("train:0", "rome", "neg", group="author"), Text("train:1", "in", "pos")]
        )
        logits = torch.tensor([[1 / 3, 2 / 3], [0.75, 0.25]]).log()
        predictions = answers(task, logits, batch)
        found = kept(task, logits, batch)
        all_ = [{"neg": 0.3333333, "pos": 0.6666667}, {"neg": 0.75, "pos": 0.25}]
        best = [{"pos": 0.6666667}, {"neg": 0.75}]
        expected = [pytest.approx(of_one, abs=1e-7) for of_one in (best if top_k == 1 else all_)]
        assert [one["probabilities"] for one in found] == expected
        assert found[0]["probabilities"]["pos"] == 0.6666667
        assert [one["group"] for one in found] == ["author", None]
        assert all(one.items() >= before.items() for one, before in zip(found, predictions, strict=True))

    def test_pairs_are_shown_as_pairs(self, task, tokenizer):
        batch = batch_of(task, tokenizer, [Text("train:0", "rome", "pos", "paris")])
        (prediction,) = answers(task, torch.zeros(1, 2), batch)
        assert prediction["input"] == ["rome", "paris"]

    def test_what_is_found_in_a_text(self, task, tokenizer):
        batch = batch_of(task, tokenizer, [Text("text:0", "rome", None)])
        answer = reply(task, torch.tensor([[math.log(0.25), math.log(0.75)]]), batch)
        assert answer["predicted"] == "pos"
        assert answer["probability"] == pytest.approx(0.75)
        assert answer["probabilities"] == pytest.approx({"neg": 0.25, "pos": 0.75})
        json.dumps(answer, allow_nan=False)


class TestInput:
    def test_texts_and_pairs(self, task):
        assert task.from_input({"text": "a", "label": "b"}, "text:3") == Text("text:3", "a", None)
        assert task.from_input({"text": "a", "text_pair": "b"}, "text:3") == Text("text:3", "a", None, "b")

    def test_a_pair_that_is_no_text(self, task):
        with pytest.raises(DataError, match="expected `text`, a string, and for pairs also `text_pair`, a string"):
            task.from_input({"text": "a", "text_pair": 1}, "text:0")


class TestLabels:
    def texts(self, *labels):
        return [Text(f"train:{n}", "a", label, file="f.csv", line=n + 2) for n, label in enumerate(labels)]

    @pytest.mark.parametrize(
        ("found", "labels"),
        [
            (["b", "a", "b"], ["a", "b"]),
            (["10", "9", "0"], ["0", "9", "10"]),
            (["10", "9", "-1"], ["-1", "10", "9"]),
            (["01", "1"], ["01", "1"]),
        ],
    )
    def test_they_are_learnt_from_the_training_split_in_order(self, found, labels):
        task = bare()
        task.learn_labels({"train": self.texts(*found)}, None)
        assert task.labels == labels

    def test_declared_labels_keep_their_order_and_may_be_more(self):
        task = bare()
        task.learn_labels({"train": EXAMPLES}, ["pos", "neutral", "neg"])
        assert task.labels == ["pos", "neutral", "neg"]

    def test_a_label_that_the_training_split_lacks(self):
        with pytest.raises(DataError) as error:
            bare().learn_labels({"train": EXAMPLES, "test": self.texts("pos", "nag")}, None)
        assert str(error.value) == (
            "f.csv:3: unknown label 'nag'. Did you mean 'neg'? Labels in the training split: neg, pos; name them all "
            "with data.labels=[...]"
        )

    def test_a_label_that_is_not_declared_among_many(self):
        with pytest.raises(DataError) as error:
            bare().learn_labels({"train": self.texts("new")}, [str(n) for n in range(20)])
        assert str(error.value) == (
            "f.csv:2: unknown label 'new'. Labels declared: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...; name them all with "
            "data.labels=[...]"
        )

    def test_one_label_is_too_few(self):
        with pytest.raises(DataError, match=r"^f\.csv: the training split has 1 label: a; a classifier needs"):
            bare().learn_labels({"train": self.texts("a", "a")}, None)
        with pytest.raises(DataError, match=r"data\.labels has 1 label: a;"):
            bare().learn_labels({"train": self.texts("a", "a")}, ["a"])


class TestSelection:
    def test_a_typo_gets_a_suggestion(self):
        with pytest.raises(ConfigError) as error:
            bare(metric="f1_macro")
        assert str(error.value).startswith("task.selection.metric = 'f1_macro' is no score of classification.")
        assert str(error.value).endswith(
            "Allowed: accuracy, macro_f1, micro_f1, weighted_f1, macro_precision, macro_recall, loss"
        )

    @pytest.mark.parametrize("metric", [*ClassScores.directions, "loss"])
    def test_every_score_can_be_selected_by(self, metric):
        selection = bare(metric=metric).selection
        assert (selection.metric, selection.mode) == (metric, "min" if metric == "loss" else "max")
