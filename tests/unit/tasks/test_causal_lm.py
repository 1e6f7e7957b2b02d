"""Conversations as batches: packed rows give what rows of their own give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tiny_models import DECODERS
from transformers import AutoModelForCausalLM, AutoTokenizer

from peftlab.data.rows.conversations import ConversationRows
from peftlab.errors import ConfigError, DataError
from peftlab.generation.conversations import TEXT, Conversation, Message
from peftlab.generation.options import Generation
from peftlab.regularizers.embeddings import Ball, perturbed_positions
from peftlab.regularizers.neftune import NefTune
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Selection

WORDS = ["the", "capital", "of", "france", "is", "paris", "and", "what", "river", "flows", "through", "rome"]


def task(**options):
    return CausalLm(name="causal_lm", selection=Selection(metric="perplexity"), **options)


def pair(number, asked, answered):
    say = lambda count: " ".join(WORDS[(number + n) % len(WORDS)] for n in range(count))  # noqa: E731
    return Conversation(f"train:{number}", (Message("user", say(asked)), Message("assistant", say(answered))))


CONVERSATIONS = [pair(0, 9, 6), pair(1, 2, 1), pair(2, 3, 9), pair(3, 4, 2), pair(4, 1, 12), pair(5, 2, 2)]
"""Some of them longer than the window of the tiny Gemma."""


@pytest.fixture(scope="module")
def processor(language_model):
    return Processor("tokenizer", AutoTokenizer.from_pretrained(language_model("llama")))


def encoded(task, processor, examples=CONVERSATIONS, most=256):
    task.bind(processor)
    return task.encode(examples, processor, Limits(most, "truncate"))


def both(task, processor, examples=CONVERSATIONS, most=256):
    """Return the batch of all examples, packed and not."""
    arrays, indices = encoded(task, processor, examples, most), range(len(examples))
    return task.collate(examples, arrays, indices), task.apart(examples, arrays, indices)


def learnt_by(task, model, batch):
    model.zero_grad()
    losses = task.losses(model(**batch.inputs), batch)
    batch.mean(losses).backward()
    return losses.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("kind", DECODERS)
def test_packed_rows_give_the_losses_and_gradients_of_rows_of_their_own(kind, language_model, processor):
    own = task()
    packed, apart = both(own, processor)
    assert len(packed.rows) < len(apart.rows)
    assert packed.positions < apart.positions
    for attention in ("eager", "sdpa"):
        model = AutoModelForCausalLM.from_pretrained(
            language_model(kind), attn_implementation=attention, use_cache=False
        ).eval()
        (losses, gradients), (expected, wanted) = (learnt_by(own, model, batch) for batch in (packed, apart))
        assert (losses - expected).abs().max() <= 1e-4
        assert all((gradients[name] - wanted[name]).abs().max() <= 1e-5 for name in wanted)


def test_nothing_is_learnt_across_pieces(processor):
    own = task(train_on="all")
    arrays = encoded(own, processor)
    for batch in both(own, processor):
        assert batch.weights.tolist() == (arrays.lengths - 1).tolist()  # all but the first token of each
        labels, ids = batch.targets["labels"], batch.inputs["input_ids"]
        follows = labels != IGNORED
        assert int(follows.sum()) == batch.weights.sum() == batch.host["learnt"]
        assert torch.equal(labels[:, :-1][follows[:, :-1]], ids[:, 1:][follows[:, :-1]])
        if batch.pieces is not None:
            assert torch.equal(batch.pieces[:, :-1][follows[:, :-1]], batch.pieces[:, 1:][follows[:, :-1]])
        assert batch.tokens == int(batch.real.sum()) == arrays.lengths.sum()


def test_padding_is_masked_by_its_place(processor):
    """A model whose padding is its end token still learns to end."""
    processor.tokenizer.pad_token = processor.tokenizer.eos_token
    try:
        for batch in both(task(), processor):
            assert (batch.targets["labels"] == processor.tokenizer.eos_token_id).sum() == len(CONVERSATIONS)
    finally:
        processor.tokenizer.pad_token = "<pad>"


def test_a_question_keeps_its_end(processor):
    """The model writes after it: a question that is longer than a row loses its beginning."""
    own = task()
    own.bind(processor)
    asked = [own.from_input({"text": " ".join(WORDS)}, "text:0")]
    whole, cut = (own.encode(asked, processor, Limits(most, "truncate")) for most in (512, 8))
    assert own.all_lost(whole) == dict.fromkeys(own.all_lost(whole), 0)
    assert own.lost(cut, 0) == {"truncated": True, "lost_tokens": len(whole.arrays["tokens"]) - 8}
    assert own.prompts(own.collate(asked, cut, [0])) == [whole.arrays["tokens"][-8:].tolist()]


def test_a_prompt_keeps_its_end_with_gold_too(processor):
    own = task()
    for said in (CONVERSATIONS[0], replace(CONVERSATIONS[1], messages=pair(1, 2, 2).messages + pair(0, 9, 6).messages)):
        asked = replace(said, messages=said.prompt)
        own.bind(processor)
        whole, cut = (own.encode([said], processor, Limits(most, "truncate")) for most in (512, 16))
        waiting = own.encode([asked], processor, Limits(16, "truncate"))
        prompts = [own.prompts(own.collate([one], of, [0])) for one, of in ((said, cut), (asked, waiting))]
        assert prompts[0] == prompts[1]
        assert len(prompts[0][0]) == 16
        assert cut.arrays["tokens"].tolist() == whole.arrays["tokens"][:16].tolist()  # what is learnt is the beginning


def test_what_is_cut_away_is_counted(processor):
    own = task()
    whole, cut = encoded(own, processor), encoded(own, processor, most=24)
    assert cut.lengths.tolist() == np.minimum(whole.lengths, 24).tolist()
    assert own.all_lost(cut)["truncated tokens"] == (whole.lengths - cut.lengths).sum() > 0
    gone = [n for n in range(len(CONVERSATIONS)) if whole.arrays["prompt"][n] >= 24]
    assert gone
    assert own.all_lost(cut)["texts whose answer is cut away"] == len(gone)
    assert own.weights(CONVERSATIONS, cut, gone).tolist() == [0] * len(gone)
    assert own.lost(cut, gone[0])["empty"]
    assert own.collate(CONVERSATIONS, cut, gone).mean(torch.zeros(len(gone))) == 0
    with pytest.raises(ConfigError, match=r"data\.long=truncate"):
        own.encode(CONVERSATIONS, processor, Limits(24, "split"))


def test_prompts_end_where_an_answer_begins(processor):
    own = task()
    batch, _ = both(own, processor)
    for conversation, prompt in zip(batch.examples, own.prompts(batch), strict=True):
        text = processor.tokenizer.decode(prompt)
        assert text.endswith(f"{conversation.messages[0].content}<|im_end|>\n<|im_start|>assistant\n")


def test_perturbations_are_of_examples_not_of_rows(processor):
    own = task()
    packed, apart = both(own, processor)
    values = {}
    for batch in (packed, apart):
        mask = perturbed_positions(batch)
        by_hand = batch.inputs["input_ids"].unsqueeze(-1) * torch.tensor([1.0, 0.5]) * mask
        assert mask.sum() == batch.tokens
        noise = NefTune().bounds(by_hand, batch.spread(batch.by_token(mask.squeeze(-1))).unsqueeze(-1))
        values[batch is packed] = [
            *(Ball(1.0, "l2", "sentence").norms(by_hand, batch), Ball(1.0, "linf").norms(by_hand, batch)),
            Ball(1.0).norms(Ball(1.0).steepest(by_hand, batch), batch),
            batch.largest(noise.squeeze(-1).expand(batch.shape)),
        ]
    for one, other in zip(values[True], values[False], strict=True):
        torch.testing.assert_close(one, other)


def test_distributions_give_the_losses(language_model, processor):
    own = task()
    model = AutoModelForCausalLM.from_pretrained(language_model("llama"), use_cache=False).eval()
    for batch in both(own, processor):
        outputs = model(**batch.inputs)
        given = own.distributions(outputs, batch)
        entropy = -given.logits.log_softmax(-1).gather(-1, given.gold.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(given.by_example(entropy, batch), own.losses(outputs, batch))
        assert torch.equal(own.divergences(outputs, outputs, batch), torch.zeros(len(CONVERSATIONS)))


def test_plain_texts_are_learnt_as_a_whole(processor):
    texts = [Conversation("train:0", (Message(TEXT, "the river"),)), pair(1, 2, 2)]
    own = task()
    arrays = encoded(own, processor, texts)
    assert own.weights(texts, arrays, [0]) == arrays.lengths[0] - 1
    assert own.gold(texts[0]) == own.text_key(texts[0]) == "the river"


def test_a_perplexity_says_which_tokens_it_is_of():
    for options in ({}, {"generate": Generation(at="never")}):
        names = [task(train_on=on, **options).scorer.name for on in ("answers", "all")]
        assert ["all tokens" in name for name in names] == [False, True]


def test_a_plain_text_is_continued(language_model, processor, monkeypatch):
    own = task(generate=Generation(max_new_tokens=4))
    own.bind(processor)
    model = AutoModelForCausalLM.from_pretrained(language_model("llama")).eval()
    asked = [own.from_input({"messages": [{"role": "text", "content": "the river"}]}, "text:0")]
    monkeypatch.setattr(processor.tokenizer, "chat_template", None)
    own.bind(processor)
    assert own.from_input({"text": "the river"}, "text:0") == asked[0]
    for limit, expected in ((64, "the river"), (1, "er")):
        batch = own.collate(asked, encoded(own, processor, asked, limit), [0])
        assert processor.tokenizer.decode(own.prompts(batch)[0]).strip() == expected
        (answer,) = own.answers_without_gold(batch, model)
        assert "".join(own.stream(batch, model)) == own.reply(asked[0], answer)["written"] != ""
    empty = [own.from_input({"text": ""}, "text:0")]
    assert own.prompts(own.collate(empty, encoded(own, processor, empty), [0])) == [[processor.tokenizer.eos_token_id]]
    own.prepare_export(model, processor)
    assert processor.tokenizer.chat_template is None


def test_inputs_of_a_prediction(processor):
    own = task()
    own.bind(processor)
    asked = own.from_input({"text": "hi", "system": "be brief"}, "text:0")
    assert [message.role for message in asked.messages] == ["system", "user"]
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "rome"}]
    assert own.from_input({"messages": turns}, "text:0").answer == "rome"
    assert own.from_input({"messages": None, "text": "hi"}, "text:0").messages == (Message("user", "hi"),)
    for odd in ({}, {"text": 3}, {"messages": []}, {"messages": turns[1:]}, {"messages": ["hi"]}):
        with pytest.raises(DataError, match="expected"):
            own.from_input(odd, "text:0")


def test_a_system_turn_is_read_or_refused(processor):
    own = task()
    own.bind(processor)
    question = {"prompt": "hi", "system": "be brief"}
    asked = own.from_input(ConversationRows(system="system").asked(question), "text:0")
    assert [message.role for message in asked.messages] == ["system", "user"]
    for unread in (
        ConversationRows().asked(question),
        {"messages": [{"role": "user", "content": "hi"}], "system": "be brief"},
    ):
        with pytest.raises(DataError, match="`system` is not read here"):
            own.from_input(unread, "text:0")
    assert len(own.from_input(ConversationRows().asked({**question, "system": None}), "text:0").messages) == 1


def test_the_words_of_the_user_may_be_edited(processor):
    own = task()
    (text,) = own.editable(CONVERSATIONS[0])
    edited = own.edited(CONVERSATIONS[0], [text.replaced({0: ["a"]})])
    assert edited.messages[0].content.startswith("a capital")
    assert edited.answer == CONVERSATIONS[0].answer
