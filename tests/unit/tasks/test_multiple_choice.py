"""Multiple choice: what its order may not change, and what a model reads of each choice."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.inputs.choices import Choices, encode_choices
from peftlab.tasks.limits import Limits
from peftlab.tasks.multiple_choice import MultipleChoice
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection

EXAMPLES = [
    Choices("train:0", ("paris", "rome", "new york"), 2, "maria moved from paris to rome .", "to where"),
    Choices("train:1", ("yesterday", "today"), 0, None, "nothing happened"),
    Choices("train:2", ("to rome .", "to paris .", "today .", "."), 1, "ada moved", None),
    Choices("train:3", ("paris", "rome"), None, None, "where is ada"),
]


@pytest.fixture(scope="module")
def processor(tiny_model):
    return Processor("tokenizer", AutoTokenizer.from_pretrained(tiny_model))


def task(**options):
    return MultipleChoice(name="choice", selection=Selection(metric="accuracy"), **options)


def batch_of(choice, processor, examples=EXAMPLES, max_tokens=40):
    encoded = choice.encode(examples, processor, Limits(max_tokens, "truncate"))
    return choice.collate(examples, encoded, range(len(examples)))


def outputs_of(batch, seed=0):
    return SimpleNamespace(logits=torch.randn(len(batch.rows), 1, generator=torch.Generator().manual_seed(seed)) * 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_cross_entropy_over_the_choices_of_each(processor, smoothing):
    choice = task(label_smoothing=smoothing)
    batch = batch_of(choice, processor)
    outputs = outputs_of(batch)
    logits = outputs.logits[:, 0].split([len(one.choices) for one in EXAMPLES])
    expected = [
        F.cross_entropy(own, torch.tensor(one.answer), label_smoothing=smoothing)
        for own, one in zip(logits, EXAMPLES, strict=True)
        if one.answer is not None
    ]
    torch.testing.assert_close(choice.losses(outputs, batch), torch.stack([*expected, torch.zeros(())]))
    assert batch.weights.tolist() == [1, 1, 1, 0]
    distributions = choice.distributions(outputs, batch)
    entropies = F.cross_entropy(distributions.logits, distributions.gold, reduction="none")
    plain = task().losses(outputs, batch)
    torch.testing.assert_close(distributions.by_example(entropies, batch), plain)
    assert choice.divergences(outputs, outputs, batch).tolist() == [0, 0, 0, 0]
    for own, answer in zip(logits, choice.answers(outputs, batch, None, final=True), strict=True):
        assert answer["probabilities"] == pytest.approx(own.softmax(0).tolist())
        assert answer["predicted"] == int(own.argmax())


def test_permuted_choices_have_permuted_scores(processor, pretrained):
    choice = task()
    torch.manual_seed(0)
    model = pretrained.backbone(choice).eval()
    turned = [replace(one, choices=one.choices[1:] + one.choices[:1]) for one in EXAMPLES]
    with torch.inference_mode():
        plain, permuted = (
            choice.answers(model(**batch.inputs), batch, model, final=True)
            for batch in (batch_of(choice, processor), batch_of(choice, processor, turned))
        )
    for one, other in zip(plain, permuted, strict=True):
        assert other["probabilities"] == pytest.approx(one["probabilities"][1:] + one["probabilities"][:1], abs=1e-6)


def test_a_long_row_loses_the_end_of_its_context_and_only_then_of_its_choice(processor):
    tokenizer = processor.tokenizer
    example = replace(EXAMPLES[0], context="maria moved from paris to rome . " * 4)
    whole = encode_choices([example], tokenizer, 200)
    assert not whole.arrays["truncated"].any()

    def row(max_tokens, number):
        encoded = encode_choices([example], tokenizer, max_tokens)
        start, end = encoded.arrays["rows"][number : number + 2]
        assert encoded.lengths.tolist() == [max_tokens]
        return tokenizer.decode(encoded.arrays["tokens"][start:end].tolist()), int(encoded.arrays["truncated"][0])

    for number, choice in enumerate(example.choices):
        second = tokenizer(f"{example.question} {choice}", add_special_tokens=False)["input_ids"]
        text, lost = row(len(second) + 3 + 2, number)
        assert text.endswith(f"[SEP] {tokenizer.decode(second)} [SEP]")
        assert text.startswith("[CLS] maria moved [SEP]") or text.startswith("[CLS] m")
        assert lost > 0
    text, _ = row(6, 0)
    assert text == f"[CLS] [SEP] {tokenizer.decode(second[:3])} [SEP]"


def test_what_is_read_for_each_choice():
    both, question, context, _ = EXAMPLES
    assert both.pairs[0] == ("maria moved from paris to rome .", "to where paris")
    assert question.pairs == [("nothing happened", "yesterday"), ("nothing happened", "today")]
    assert context.pairs[1] == ("ada moved", "to paris .")


def test_only_context_and_question_may_be_edited():
    choice = task()
    for example in EXAMPLES:
        texts = choice.editable(example)
        assert choice.edited(example, texts) == example
        assert not any(one in [text.text for text in texts] for one in example.choices)
    assert choice.edited(EXAMPLES[2], choice.editable(EXAMPLES[0])[:1]).context == EXAMPLES[0].context


@pytest.mark.parametrize(
    "fields",
    [
        {"choices": ["a", "b"]},
        {"question": "a", "choices": ["a"]},
        {"question": 1, "choices": ["a", "b"]},
        {"text": "a"},
    ],
)
def test_what_is_no_question_is_refused(fields):
    with pytest.raises(DataError, match="expected `question` or `context`, or both, each a string, and `choices`"):
        task().from_input(fields, "text:0")


def test_a_row_is_never_divided(processor):
    with pytest.raises(ConfigError, match="each choice is one row"):
        task().encode(EXAMPLES, processor, Limits(40, "split"))


def test_an_answer_that_is_not_the_most_probable_contradicts_itself(processor):
    choice = task()
    batch = batch_of(choice, processor)
    for example, answer in zip(EXAMPLES, choice.answers(outputs_of(batch), batch, None, final=True), strict=True):
        kept = choice.kept(example, answer)
        assert choice.is_consistent(kept, {})
        other = (kept["predicted"] + 1) % kept["choices"]
        assert not choice.is_consistent(kept | {"predicted": other}, {})
        assert not choice.is_consistent(kept | {"probability": kept["probability"] - 0.01}, {})
