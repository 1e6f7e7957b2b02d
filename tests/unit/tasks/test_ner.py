from __future__ import annotations

import json
import math

import pytest
import torch
from pydantic import ValidationError
from tests.unit.tasks.conftest import answers, kept, reply
from torch.nn import functional as F
from transformers.utils import ModelOutput

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.limits import Limits
from peftlab.tasks.ner import IGNORED, Ner
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection

GAP = "\u200b"
"""A word of which the tokenizer leaves nothing."""


def sentence(text: str, id_="train:0", first_line=1) -> Sentence:
    """A sentence written as ``word/TAG word word/TAG``; a word without a tag is O."""
    pairs = [word.rpartition("/")[::2] if "/" in word else (word, "O") for word in text.split(" ")]
    words, tags = (list(column) for column in zip(*pairs, strict=True))
    return Sentence(id_, words, tags, "train.txt", list(range(first_line, first_line + len(words))))


EXAMPLES = [
    sentence("Marie/B-PER Curie/I-PER moved from the/B-LOC north to Warsaw/B-LOC", "train:0"),
    sentence("nothing happened today .", "train:1"),
    sentence(f"Ada/B-PER {GAP} Rome/B-LOC", "train:2"),
]


def batch_of(task, tokenizer, examples=EXAMPLES, indices=None, max_tokens=64, long="split"):
    encoded = task.encode(examples, Processor("tokenizer", tokenizer), Limits(max_tokens, long))
    return task.collate(examples, encoded, range(len(examples)) if indices is None else indices)


def gold_logits(task, batch, sure=10.0):
    """Logits that predict the gold label of every labelled token, and nonsense elsewhere."""
    torch.manual_seed(0)
    logits = torch.randn(*batch.targets["labels"].shape, len(task.labels))
    labelled = batch.targets["labels"] != IGNORED
    logits[labelled] = sure * F.one_hot(batch.targets["labels"][labelled], len(task.labels)).float()
    return logits


def scores_of(task, predictions):
    return task.scorer.scores(task.scorer.total(predictions))


class TestCollate:
    def test_a_batch_by_hand(self, ner, tokenizer):
        task = ner()
        batch = batch_of(task, tokenizer, [sentence("the/B-LOC paris/I-LOC"), sentence("rome/B-PER", "train:1")])
        ids = tokenizer.convert_tokens_to_ids
        assert task.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
        assert batch.inputs["input_ids"].tolist() == [
            ids(["[CLS]", "t", "##h", "##e", "paris", "[SEP]"]),
            ids(["[CLS]", "rome", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]),
        ]
        assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]
        no = IGNORED
        assert batch.targets["labels"].tolist() == [[no, 1, no, no, 2, no], [no, 3, no, no, no, no]]
        assert batch.host["words"] == [[0, 1], [0]]
        assert batch.tokens == 9
        assert [example.id for example in batch.examples] == ["train:0", "train:1"]
        assert batch.weights.tolist() == [2, 1]

    def test_the_examples_come_in_the_order_asked_for(self, ner, tokenizer):
        batch = batch_of(ner(), tokenizer, indices=[2, 0])
        assert [example.id for example in batch.examples] == ["train:2", "train:0"]
        assert batch.host["words"] == [[0, 2], [0, 1, 2, 3, 4, 5, 6, 7]]
        ((first, second), width) = batch.inputs["input_ids"], batch.inputs["input_ids"].shape[1]
        assert (first == tokenizer.pad_token_id).sum() == width - batch.inputs["attention_mask"][0].sum()
        assert (second != tokenizer.pad_token_id).all()


class TestDecode:
    @pytest.mark.parametrize("max_tokens", [3, 6, 64])
    def test_gold_logits_give_the_gold_tags(self, ner, tokenizer, max_tokens):
        task = ner()
        batch = batch_of(task, tokenizer, max_tokens=max_tokens)
        predictions = answers(task, gold_logits(task, batch), batch)
        assert [p["id"] for p in predictions] == ["train:0", "train:1", "train:2"]
        for example, prediction in zip(EXAMPLES, predictions, strict=True):
            assert prediction["input"] == example.words
            assert prediction["gold"] == example.tags
            assert prediction["predicted"] == example.tags
        assert scores_of(task, predictions) == {
            "entity_precision": 1,
            "entity_recall": 1,
            "entity_f1": 1,
            "entity_f1_macro": 1,
        }

    def test_a_wrong_logit_gives_a_wrong_tag(self, ner, tokenizer):
        task = ner()
        batch = batch_of(task, tokenizer, [sentence("Marie/B-PER moved")])
        logits = gold_logits(task, batch)
        logits[0, 2] = torch.tensor([0.0, 9, 0, 0, 0])
        assert answers(task, logits, batch)[0]["predicted"] == ["B-PER", "B-LOC"]

    def test_words_without_a_token_are_o_and_lower_the_recall(self, ner, tokenizer):
        task = ner()
        example = sentence(f"{GAP}/B-PER moved to Rome/B-LOC and/B-LOC {GAP}/I-LOC")
        batch = batch_of(task, tokenizer, [example])
        (prediction,) = answers(task, gold_logits(task, batch), batch)
        assert prediction["gold"] == ["B-PER", "O", "O", "B-LOC", "B-LOC", "I-LOC"]
        assert prediction["predicted"] == ["O", "O", "O", "B-LOC", "B-LOC", "O"]
        assert [p is None for p in prediction["probability"]] == [True, False, False, False, False, True]
        # the emptied person is missed, the place that lost its end is wrong; one of three is right
        scores = scores_of(task, [prediction])
        assert scores["entity_recall"] == pytest.approx(1 / 3)
        assert scores["entity_precision"] == pytest.approx(1 / 2)

    def test_truncated_entities_lower_the_recall(self, ner, tokenizer):
        task = ner()
        example = sentence("Paris/B-LOC moved Rome/B-LOC curie/B-PER york/B-LOC")
        batch = batch_of(task, tokenizer, [example], max_tokens=5, long="truncate")
        (prediction,) = answers(task, gold_logits(task, batch), batch)
        assert prediction["predicted"] == ["B-LOC", "O", "B-LOC", "O", "O"]
        scores = scores_of(task, [prediction])
        assert scores["entity_recall"] == pytest.approx(2 / 4)
        assert scores["entity_precision"] == 1
        assert scores["entity_f1"] == pytest.approx(4 / 6)

    def test_rows_of_one_sentence_decode_as_the_whole(self, ner, tokenizer):
        """Whatever the logits of a word are, it does not matter in which row it stands."""
        task = ner()
        torch.manual_seed(0)
        of_word = torch.randn(sum(len(example.words) for example in EXAMPLES), len(task.labels))
        decoded = []
        for max_tokens in (64, 8, 5, 3):
            batch = batch_of(task, tokenizer, max_tokens=max_tokens)
            labelled = batch.targets["labels"] != IGNORED
            logits = torch.randn(*labelled.shape, len(task.labels))
            logits[labelled] = of_word[: labelled.sum()]
            decoded.append(answers(task, logits, batch))
        assert len(batch.targets["labels"]) > len(EXAMPLES)
        assert all(each == decoded[0] for each in decoded)

    def test_probabilities_of_words_and_entities(self, ner, tokenizer):
        task = ner()
        example = sentence("Marie/B-PER Curie/I-PER moved paris")
        batch = batch_of(task, tokenizer, [example])
        wanted = {0: ("B-PER", 0.8), 1: ("I-PER", 0.5), 2: ("O", 0.9), 3: ("B-LOC", 0.6)}
        logits = torch.zeros(*batch.targets["labels"].shape, len(task.labels))
        for place, (label, p) in zip(
            (batch.targets["labels"][0] != IGNORED).nonzero()[:, 0], wanted.values(), strict=True
        ):
            logits[0, place] = math.log((1 - p) / 4)
            logits[0, place, task.labels.index(label)] = math.log(p)
        (prediction,) = answers(task, logits, batch)
        assert prediction["predicted"] == [label for label, _ in wanted.values()]
        assert prediction["probability"] == pytest.approx([0.8, 0.5, 0.9, 0.6])
        assert prediction["gold_entities"] == [{"type": "PER", "start": 0, "end": 2, "text": "Marie Curie"}]
        person, place = prediction["predicted_entities"]
        assert person.pop("probability") == pytest.approx(0.8 * 0.5)
        assert place.pop("probability") == pytest.approx(0.6)
        assert person == {"type": "PER", "start": 0, "end": 2, "text": "Marie Curie"}
        assert place == {"type": "LOC", "start": 3, "end": 4, "text": "paris"}
        json.dumps(prediction, allow_nan=False)

    @pytest.mark.parametrize(("repair", "found"), [("conlleval", ["LOC"]), ("discard", [])])
    def test_the_repair_policy_is_used_for_entities_and_scores(self, ner, tokenizer, repair, found):
        task = ner(repair=repair)
        batch = batch_of(task, tokenizer, [sentence("moved rome")])
        logits = torch.zeros(*batch.targets["labels"].shape, len(task.labels))
        logits[0, 2, task.labels.index("I-LOC")] = 9
        predictions = answers(task, logits, batch)
        assert predictions[0]["predicted"] == ["O", "I-LOC"]
        assert [entity["type"] for entity in predictions[0]["predicted_entities"]] == found
        _, predicted, _ = task.scorer.of_classes(task.scorer.total(predictions))
        assert predicted.sum() == len(found)
        assert repair in task.scorer.name


class TestLoss:
    def by_hand(self, task, logits, batch, smoothing=0.0):
        """Cross-entropy against (1 - s) one-hot + s uniform, averaged over the first tokens of words."""
        log_p = logits.double() - logits.double().exp().sum(-1, keepdim=True).log()
        losses = []
        for row, labels in enumerate(batch.targets["labels"].tolist()):
            for column, label in enumerate(labels):
                if label != IGNORED:
                    uniform = log_p[row, column].mean()
                    losses.append(-((1 - smoothing) * log_p[row, column, label] + smoothing * uniform).item())
        assert len(losses) == sum(len(words) for words in batch.host["words"])
        return sum(losses) / len(losses)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_it_is_the_mean_over_first_tokens_of_words(self, ner, tokenizer, smoothing):
        task = ner(label_smoothing=smoothing)
        batch = batch_of(task, tokenizer)
        torch.manual_seed(0)
        logits = torch.randn(*batch.targets["labels"].shape, len(task.labels))
        assert task.loss(ModelOutput(logits=logits), batch).item() == pytest.approx(
            self.by_hand(task, logits, batch, smoothing), rel=1e-5
        )
        chosen = batch.targets["labels"] != IGNORED
        by_torch = F.cross_entropy(logits[chosen], batch.targets["labels"][chosen], label_smoothing=smoothing)
        torch.testing.assert_close(task.loss(ModelOutput(logits=logits), batch), by_torch)

    def test_padding_and_later_subwords_have_no_part_in_it(self, ner, tokenizer):
        task = ner()
        batch = batch_of(task, tokenizer)
        logits = torch.zeros(*batch.targets["labels"].shape, len(task.labels), requires_grad=True)
        task.loss(ModelOutput(logits=logits), batch).backward()
        touched = logits.grad.abs().sum(-1) > 0
        assert torch.equal(touched, batch.targets["labels"] != IGNORED)

    def test_half_precision_logits_lose_nothing_more(self, ner, tokenizer):
        task = ner()
        batch = batch_of(task, tokenizer)
        logits = torch.randn(*batch.targets["labels"].shape, len(task.labels)).bfloat16()
        loss = task.loss(ModelOutput(logits=logits), batch)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, task.loss(ModelOutput(logits=logits.float()), batch))

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_a_batch_of_only_emptied_words_is_no_nan(self, ner, tokenizer, smoothing):
        task = ner(label_smoothing=smoothing)
        batch = batch_of(task, tokenizer, [sentence(f"{GAP}/B-PER {GAP}")])
        logits = torch.randn(*batch.targets["labels"].shape, len(task.labels), requires_grad=True)
        loss = task.loss(ModelOutput(logits=logits), batch)
        loss.backward()
        assert loss.item() == 0
        assert not logits.grad.any()
        assert batch.weights.tolist() == [0]
        assert answers(task, logits, batch)[0]["predicted"] == ["O", "O"]

    @pytest.mark.parametrize("smoothing", [-0.1, 1.0])
    def test_label_smoothing_is_a_share(self, ner, smoothing):
        with pytest.raises(ValidationError, match="label_smoothing"):
            ner(label_smoothing=smoothing)


class TestLabels:
    def task(self):
        return Ner(name="ner", selection=Selection(metric="entity_f1", mode="max"))

    def test_they_are_learnt_from_the_training_split_in_order(self):
        task = self.task()
        task.learn_labels({"train": EXAMPLES, "test": [sentence("Rome/B-LOC")]}, None)
        assert task.types == ["LOC", "PER"]
        assert task.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
        again = self.task()
        again.learn_labels({"train": []}, task.declared_labels)
        assert again.labels == task.labels

    def test_declared_labels_keep_their_order_and_may_be_more(self):
        task = self.task()
        task.learn_labels({"train": EXAMPLES}, ["PER", "ORG", "LOC"])
        assert task.labels == ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]

    def test_a_label_that_the_training_split_lacks(self):
        with pytest.raises(DataError) as error:
            self.task().learn_labels({"train": EXAMPLES, "test": [sentence("in the/B-LOK north", first_line=7)]}, None)
        assert str(error.value) == (
            "train.txt:8: unknown label 'B-LOK'. Did you mean 'B-LOC'? Entity types in the training split: LOC, PER; "
            "name them all with data.labels=[...]"
        )

    def test_a_label_that_is_not_declared(self):
        with pytest.raises(DataError) as error:
            self.task().learn_labels({"train": EXAMPLES}, ["LOC", "ORG"])
        assert str(error.value).startswith("train.txt:1: unknown label 'B-PER'.")
        assert "Entity types declared: LOC, ORG;" in str(error.value)

    def test_a_training_split_without_entities(self):
        with pytest.raises(DataError, match="the training split has no entity: every tag is O"):
            self.task().learn_labels({"train": [sentence("nothing happened")], "test": [sentence("today")]}, None)


class TestEmptiedWords:
    """In an answer, a word of which the tokenizer leaves nothing does not end the entity around it."""

    @pytest.mark.parametrize(
        ("tags", "found"),
        [
            ("B-LOC - I-LOC", [(0, 3)]),
            ("B-LOC - - - I-LOC O", [(0, 5)]),
            ("O B-LOC I-LOC - I-LOC - I-LOC", [(1, 7)]),
            ("B-LOC - B-LOC", [(0, 1), (2, 3)]),  # the next one begins another
            ("B-LOC - I-PER", [(0, 1), (2, 3)]),
            ("B-LOC - O", [(0, 1)]),
            ("O - I-LOC", [(2, 3)]),
            ("- B-LOC -", [(1, 2)]),
            ("- - -", []),
        ],
    )
    def test_the_entity_goes_on(self, ner, tokenizer, tags, found):
        task, tags = ner(), tags.split()
        words = [GAP if tag == "-" else "rome" for tag in tags]
        example = Sentence("text:0", words, ["O" if tag == "-" else tag for tag in tags])
        batch = batch_of(task, tokenizer, [example])
        logits = gold_logits(task, batch)
        answer = reply(task, logits, batch)
        assert [(entity["start"], entity["end"]) for entity in answer["entities"]] == found
        (scored,) = answers(task, logits, batch)  # at an evaluation it counts as missed
        assert [tag for tag, mark in zip(scored["predicted"], tags, strict=True) if mark == "-"] == ["O"] * tags.count(
            "-"
        )

    def test_what_is_truncated_ends_it(self, ner, tokenizer):
        task = ner()
        batch = batch_of(task, tokenizer, [sentence("rome/B-LOC rome/I-LOC rome/I-LOC")], max_tokens=4, long="truncate")
        answer = reply(task, gold_logits(task, batch), batch)
        assert [(entity["start"], entity["end"]) for entity in answer["entities"]] == [(0, 2)]


class TestLost:
    @pytest.mark.parametrize(
        ("words", "max_tokens", "long", "lost", "total"),
        [
            (["rome", "in", "paris"], 64, "split", {}, {}),
            (["rome", "in", "paris"], 4, "split", {}, {}),
            (["rome", "in", "paris"], 4, "truncate", {"truncated": True, "lost_words": 1}, {"truncated words": 1}),
            (["rome", GAP], 64, "split", {"emptied_words": 1}, {"words without a token": 1}),
            (["a" * 9, "in"], 6, "split", {"cut_words": 1}, {"words without their end, longer than a row": 1}),
            (
                ["in", GAP, "aaa", "paris", "in"],
                4,
                "truncate",
                {"truncated": True, "lost_words": 3, "emptied_words": 1},
                {"truncated words": 3, "words without a token": 1},
            ),
        ],
    )
    def test_it_is_counted_by_sentence(self, ner, tokenizer, words, max_tokens, long, lost, total):
        task = ner()
        examples = [Sentence("text:0", ["paris"], ["O"]), Sentence("text:1", words, ["O"] * len(words))]
        encoded = task.encode(examples, Processor("tokenizer", tokenizer), Limits(max_tokens, long))
        assert [task.lost(encoded, n) for n in range(2)] == [{}, lost]
        assert {what: n for what, n in task.all_lost(encoded).items() if n} == total


class TestKept:
    def kept(self, task, tokenizer, example):
        batch = batch_of(task, tokenizer, [example])
        logits = gold_logits(task, batch, sure=1.0)
        predictions = answers(task, logits, batch)
        (found,) = kept(task, logits, batch)
        assert found.items() >= predictions[0].items()
        return found

    def test_the_probabilities_of_all_tags(self, ner, tokenizer):
        task = ner()
        kept = self.kept(task, tokenizer, sentence(f"Marie/B-PER {GAP} moved"))
        first, emptied, last = kept["probabilities"]
        assert emptied is None
        for found, tag, probability in ((first, "B-PER", kept["probability"][0]), (last, "O", kept["probability"][2])):
            assert list(found) == task.labels
            assert sum(found.values()) == pytest.approx(1, abs=1e-6)
            assert max(found, key=found.get) == tag
            assert found[tag] == pytest.approx(probability, rel=1e-6)
            assert all(len(repr(p).replace("0.", "").lstrip("0")) <= 7 for p in found.values())
        assert kept["group"] is None

    @pytest.mark.parametrize("top_k", [1, 2, 5, 9])
    def test_of_the_most_probable_ones_alone(self, ner, tokenizer, top_k):
        kept = self.kept(ner(top_k=top_k), tokenizer, sentence("Marie/B-PER moved"))
        whole = self.kept(ner(), tokenizer, sentence("Marie/B-PER moved"))
        for few, all_ in zip(kept["probabilities"], whole["probabilities"], strict=True):
            assert len(few) == min(top_k, 5)
            assert few.items() <= all_.items()
            assert min(few.values()) >= max([p for label, p in all_.items() if label not in few], default=0)

    def test_the_group(self, ner, tokenizer):
        assert self.kept(ner(), tokenizer, Sentence("train:0", ["rome"], ["O"], group="doc 7"))["group"] == "doc 7"


class TestSelection:
    def test_a_typo_gets_a_suggestion(self):
        with pytest.raises(ConfigError) as error:
            Ner(name="ner", selection=Selection(metric="entity_f", mode="max"))
        assert str(error.value) == (
            "task.selection.metric = 'entity_f' is no score of ner. Did you mean 'entity_f1'? "
            "Allowed: entity_precision, entity_recall, entity_f1, entity_f1_macro, loss"
        )

    @pytest.mark.parametrize("metric", ["entity_precision", "entity_recall", "entity_f1", "entity_f1_macro", "loss"])
    def test_every_score_can_be_selected_by(self, ner, metric):
        selection = ner(metric=metric).selection
        assert (selection.metric, selection.mode) == (metric, "min" if metric == "loss" else "max")

    @pytest.mark.parametrize(
        ("metric", "mode", "message"),
        [
            ("loss", "max", "task.selection.mode = 'max': of loss, less is better"),
            ("entity_f1", "min", "task.selection.mode = 'min': of entity_f1, more is better"),
            ("entity_recall", "min", "task.selection.mode = 'min': of entity_recall, more is better"),
        ],
    )
    def test_a_direction_that_is_not_its_own_is_refused(self, metric, mode, message):
        with pytest.raises(ConfigError, match=message):
            Ner(name="ner", selection=Selection(metric=metric, mode=mode))
        other = {"max": "min", "min": "max"}[mode]
        assert Ner(name="ner", selection=Selection(metric=metric, mode=other)).selection.mode == other


def test_the_text_of_an_example_is_its_words(ner):
    task = ner()
    assert task.text_key(sentence("Rome/B-LOC fell")) == task.text_key(sentence("Rome/B-PER fell"))
    assert task.text_key(sentence("Rome fell")) != task.text_key(sentence("Romefell"))
