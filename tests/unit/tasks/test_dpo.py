"""Preference optimisation: what a row has, what counts of it, and the loss."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.tiny_models import POSITIONS
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from peftlab.data.static_shapes import StaticShapes
from peftlab.errors import ConfigError, DataError
from peftlab.generation.conversations import Message
from peftlab.generation.options import Generation
from peftlab.tasks.dpo import Dpo
from peftlab.tasks.inputs.preferences import Preference
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.reference import REFERENCE, with_reference
from peftlab.tasks.task import IGNORED, Selection

ASKED = (Message("user", "what is the capital of france ?"),)
PAIRS = [
    Preference("train:0", ASKED, "paris", "rome flows"),
    Preference("train:1", (*ASKED, Message("assistant", "rome"), Message("user", "is it ?")), "paris it is", "the"),
]


@pytest.fixture(scope="module")
def processor(language_model):
    return Processor("tokenizer", AutoTokenizer.from_pretrained(language_model("llama")))


def task(**options):
    return Dpo(name="dpo", selection=Selection(metric="accuracy"), **options)


def encoded_by(dpo, processor, examples=PAIRS, max_tokens=200):
    encoded = dpo.encode(examples, processor, Limits(max_tokens, "truncate"))
    rows = encoded.rows.tolist()
    values = torch.randn(sum(rows), generator=torch.Generator().manual_seed(1)).numpy()
    return with_reference(encoded, dict(enumerate(np.split(values, np.cumsum(rows)[:-1]))))


def outputs_of(batch, processor):
    shape = (*batch.inputs["input_ids"].shape, len(processor.tokenizer))
    return SimpleNamespace(logits=torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def test_only_the_last_answer_and_its_end_are_learnt(processor):
    dpo = task()
    batch = dpo.collate(PAIRS, encoded_by(dpo, processor), [0, 1])
    written = [
        processor.tokenizer.decode([label for label in row if label != IGNORED])
        for row in batch.targets["labels"].tolist()
    ]
    assert written == [f"{answer}<|im_end|>" for one in PAIRS for answer in one.answers]
    assert batch.rows.tolist() == [0, 0, 1, 1]
    assert batch.targets["sign"].tolist() == [1, -1, 1, -1]
    assert batch.weights.tolist() == [1, 1]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_the_paper(processor, smoothing):
    dpo = task(beta=0.3, label_smoothing=smoothing)
    encoded = encoded_by(dpo, processor)
    batch = dpo.collate(PAIRS, encoded, [0, 1])
    outputs = outputs_of(batch, processor)
    log_p = outputs.logits.log_softmax(-1)
    of_rows = []
    for row, labels in enumerate(batch.targets["labels"].tolist()):
        of_rows.append(sum(log_p[row, place, label] for place, label in enumerate(labels) if label != IGNORED))
    ratios = (torch.stack(of_rows) - torch.from_numpy(encoded.arrays[REFERENCE])).view(2, 2)
    margins = 0.3 * (ratios[:, 0] - ratios[:, 1])
    expected = -(1 - smoothing) * F.logsigmoid(margins) - smoothing * F.logsigmoid(-margins)
    torch.testing.assert_close(dpo.losses(outputs, batch), expected)
    for margin, answer in zip(margins.tolist(), dpo.answers(outputs, batch, None, final=True), strict=True):
        assert answer["rewards"]["chosen"] - answer["rewards"]["rejected"] == pytest.approx(margin, abs=1e-4)
        assert answer["predicted"] == answer["input"]["chosen" if margin > 0 else "rejected"]
        assert dpo.is_consistent(answer, {})
        assert not dpo.is_consistent({**answer, "predicted": "neither"}, {})


def test_the_loss_of_a_pair_does_not_depend_on_its_batch(processor):
    dpo = task()
    encoded = encoded_by(dpo, processor)
    whole = dpo.collate(PAIRS, encoded, [1, 0])
    outputs = outputs_of(whole, processor)
    losses = dpo.losses(outputs, whole)
    alone = dpo.collate(PAIRS, encoded, [1])
    width = alone.inputs["input_ids"].shape[1]
    torch.testing.assert_close(dpo.losses(SimpleNamespace(logits=outputs.logits[:2, :width]), alone), losses[:1])
    filled = StaticShapes(256).padded(whole, 8)
    assert filled.copies == 4
    logits = torch.zeros(8, filled.inputs["input_ids"].shape[1], outputs.logits.shape[-1])
    logits[:4, : outputs.logits.shape[1]] = outputs.logits
    filled_losses = dpo.losses(SimpleNamespace(logits=logits), filled)
    torch.testing.assert_close(filled_losses[:2], losses)
    torch.testing.assert_close(filled.mean(filled_losses), whole.mean(losses))


def test_an_answer_that_is_cut_away_counts_for_nothing(processor):
    dpo = task()
    whole = encoded_by(dpo, processor)
    room = int(whole.lengths[0])  # the second pair has a longer prompt
    encoded = encoded_by(dpo, processor, max_tokens=room)
    assert dpo.all_lost(encoded)["pairs whose answer is cut away"] == 1
    assert dpo.lost(encoded, 1)["empty"]
    batch = dpo.collate(PAIRS, encoded, [0, 1])
    assert batch.inputs["input_ids"].shape == (4, room)
    assert batch.weights.tolist() == [1, 0]
    outputs = outputs_of(batch, processor)
    assert dpo.losses(outputs, batch)[1] == 0
    answers = dpo.answers(outputs, batch, None, final=True)
    assert (answers[1]["rewards"], answers[1]["predicted"], answers[1]["probability"]) == (None, None, None)
    assert all(dpo.is_consistent(answer, {}) and dpo.agree(answer, answer, 0) for answer in answers)
    assert not dpo.is_consistent({**answers[1], "predicted": "the"}, {})
    assert dpo.scorer.total(answers)[0] == 1
    alone = dpo.encode(PAIRS[1:], processor, Limits(room, "truncate"))  # predicting it asks for no reference
    (answer,) = dpo.answers(outputs, dpo.collate(PAIRS[1:], alone, [0]), None, final=True)
    assert dpo.reply(PAIRS[1], answer) == {"predicted": None, "probability": None, "rewards": None}
    with pytest.raises(ConfigError, match="long=split: an answer needs"):
        dpo.encode(PAIRS, processor, Limits(64, "split"))


def test_what_is_given_to_predict(processor):
    dpo = task()
    pair = dpo.from_input({"text": ASKED[0].content, "chosen": "paris", "rejected": "rome flows"}, "train:0")
    assert pair == PAIRS[0]
    assert dpo.from_input({"text": ASKED[0].content, "messages": None}, "text:0").prompt == ASKED  # as tables have it
    prompt = dpo.from_input({"messages": [ASKED[0]._asdict()]}, "text:0")
    encoded = dpo.encode([prompt, pair], processor, Limits(8, "truncate"))
    assert encoded.rows.tolist() == [1, 2]
    assert encoded.lengths[0] > 8  # a prompt is cut where it is answered
    assert dpo.weights([prompt, pair], encoded, [0, 1]).tolist() == [0, 0]
    for fields in ({"chosen": "a", "rejected": "b"}, {"text": "a", "chosen": "b"}, {"text": 1}, {"messages": []}):
        with pytest.raises(DataError, match="prompt"):
            dpo.from_input(fields, "text:0")
    with pytest.raises(DataError, match="`system` is not read here"):
        dpo.from_input({"text": "a", "system": "b"}, "text:0")


def test_what_the_model_did_not_see_of_a_prompt_is_told(processor, language_model):
    dpo = task(generate=Generation(max_new_tokens=8))
    dpo.bind(processor)
    model = AutoModelForCausalLM.from_pretrained(language_model("llama"))
    for words, names in ((300, ["written", "stopped", "unseen_prompt_tokens"]), (3, ["written", "stopped"])):
        prompt = dpo.from_input({"text": "rome " * words}, "text:0")
        batch = dpo.collate([prompt], dpo.encode([prompt], processor, Limits(64, "truncate")), [0])
        (answer,) = dpo.answers_without_gold(batch, model)
        reply = dpo.reply(prompt, answer)
        assert list(reply) == names
        assert reply.get("unseen_prompt_tokens", 0) == max(0, len(batch.inputs["input_ids"][0]) - (POSITIONS - 8))


def test_a_pair_turned_round_is_a_conflict():
    dpo, pair = task(), PAIRS[0]
    turned = replace(pair, chosen=pair.rejected, rejected=pair.chosen)
    assert dpo.text_key(turned) == dpo.text_key(pair)
    assert dpo.gold(turned) != dpo.gold(pair)
