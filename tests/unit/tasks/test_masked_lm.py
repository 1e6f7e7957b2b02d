"""Masked language modelling: which tokens are hidden, when they are the same, and what is said of them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from peftlab.data.batching import generator_of
from peftlab.errors import ConfigError
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.limits import Limits
from peftlab.tasks.masked_lm import MaskedLm
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Selection

TEXTS = [
    "maria moved from paris to rome .",
    "nothing happened today .",
    "the report was read by maria , said ada .",
    "is",
]


@pytest.fixture(scope="module")
def processor(tiny_model):
    return Processor("tokenizer", AutoTokenizer.from_pretrained(tiny_model))


@pytest.fixture
def task(processor):
    task = MaskedLm(name="masked_lm", selection=Selection(metric="perplexity"))
    task.bind(processor)
    return task


def examples(texts=TEXTS):
    return [Text(f"train:{n}", text, None) for n, text in enumerate(texts)]


def rows_of(task, processor, indices, random=None, texts=TEXTS, max_tokens=10):
    """Return the tokens and the labels of each example, without padding, in rows of at most ten tokens."""
    members = examples(texts)
    encoded = task.encode(members, processor, Limits(max_tokens, "split"))
    batch = task.collate(members, encoded, indices, random)
    lengths = batch.inputs["attention_mask"].sum(1).tolist()
    of_examples = {i: ([], []) for i in indices}
    for row, example in enumerate(batch.rows.tolist()):
        for own, tensor in zip(
            of_examples[indices[example]], (batch.inputs["input_ids"], batch.targets["labels"]), strict=True
        ):
            own.extend(tensor[row, : lengths[row]].tolist())
    return of_examples


def test_masks_are_the_same_in_any_batch_and_others_in_another_epoch(task, processor):
    first, second = (partial(generator_of, 7, epoch) for epoch in (0, 1))
    whole = rows_of(task, processor, [0, 1, 2, 3], first)
    for part in ([2], [3, 0], [1, 2]):
        assert rows_of(task, processor, part, first).items() <= whole.items()
    assert rows_of(task, processor, [0, 1, 2, 3], second) != whole
    assert rows_of(task, processor, [0, 1, 2, 3], partial(generator_of, 8, 0)) != whole


def test_masks_of_an_evaluation_follow_from_the_text_alone(task, processor):
    whole = rows_of(task, processor, [0, 1, 2, 3])
    turned = rows_of(task, processor, [0, 1, 2, 3], texts=TEXTS[::-1])
    assert {3 - n: own for n, own in turned.items()} == whole


def test_a_text_goes_on_in_further_rows_of_which_no_token_is_lost(task, processor):
    texts = ["the report was read by maria , said ada . " * 3]
    encoded = task.encode(examples(texts), processor, Limits(10, "split"))
    special = processor.special_ids
    text = [token for token in encoded.arrays["tokens"].tolist() if token not in special]
    assert text == processor.tokenizer(texts[0], add_special_tokens=False)["input_ids"]
    lengths = np.diff(encoded.arrays["rows"])
    assert encoded.rows.tolist() == [len(lengths)]
    assert set(lengths[:-1]) == {10}
    cut = task.encode(examples(texts), processor, Limits(10, "truncate"))
    assert cut.rows.tolist() == [1]
    assert task.lost(cut, 0) == {"truncated": True, "lost_tokens": len(text) - 8}


def test_fifteen_in_a_hundred_are_hidden_most_of_them_by_the_mask(task, processor):
    texts = [" ".join(["maria", "moved", "from", "paris", "to", "rome", "."][n % 5 :] * 10) for n in range(200)]
    random, mask, special = partial(generator_of, 0, 0), processor.tokenizer.mask_token_id, processor.special_ids
    plain = task.encode(examples(texts), processor, Limits(128, "split"))
    fates: Counter[str] = Counter()
    for n, (tokens, labels) in rows_of(task, processor, range(200), random, texts, 128).items():
        own = plain.arrays["tokens"][plain.arrays["rows"][plain.arrays["examples"][n]] :][: len(tokens)].tolist()
        hidden = [place for place, label in enumerate(labels) if label != IGNORED]
        counted = sum(token not in special for token in own)
        assert len(hidden) == max(1, round(0.15 * counted)) == task.weights(examples(texts), plain, [n])[0]
        for place in range(len(own)):
            if place not in hidden:
                assert tokens[place] == own[place]
                continue
            assert labels[place] == own[place] not in special
            fate = "mask" if tokens[place] == mask else "kept" if tokens[place] == own[place] else "another"
            assert fate == "mask" or tokens[place] not in special
            fates[fate] += 1
    shares = {fate: count / fates.total() for fate, count in fates.items()}
    assert fates.total() > 1000
    assert shares == pytest.approx({"mask": 0.8, "kept": 0.1, "another": 0.1}, abs=0.03)


def test_masks_in_a_text_are_asked_for_and_count_for_nothing(task, processor):
    member = task.from_input({"text": "maria moved from [MASK] to [MASK] ."}, "text:0")
    encoded = task.encode([member], processor, Limits(32, "split"))
    batch = task.collate([member], encoded, [0], partial(generator_of, 0, 0))
    assert batch.weights.tolist() == [0]
    assert (batch.targets["labels"] == IGNORED).all()
    logits = torch.zeros(*batch.inputs["input_ids"].shape, len(processor.tokenizer))
    paris = processor.tokenizer.convert_tokens_to_ids("from")
    logits[0, :, paris] = 5
    outputs = SimpleNamespace(logits=logits)
    assert task.losses(outputs, batch).tolist() == [0]
    (answer,) = task.answers(outputs, batch, None, final=True)
    assert answer["predicted"] == ["from", "from"]
    assert answer["masked"] == answer["log_probability"] == [None, None]
    assert [next(iter(fills)) for fills in task.reply(member, answer)["fills"]] == ["from", "from"]
    assert "masked" not in task.reply(member, answer)
    assert task.scorer.counts(answer) == {0: 0, 1: 0, 2: 0}
    assert task.is_consistent(answer, {})
    assert not task.is_consistent(answer | {"predicted": ["from", list(answer["fills"][1])[1]]}, {})


def test_a_tokenizer_without_a_mask_is_refused(task, processor):
    other = Processor("tokenizer", AutoTokenizer.from_pretrained(processor.tokenizer.name_or_path))
    other.tokenizer.mask_token = None
    with pytest.raises(ConfigError, match="the model's tokenizer has no mask token"):
        task.bind(other)
