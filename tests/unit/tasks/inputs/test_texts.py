from __future__ import annotations

import itertools

import pytest

from peftlab.errors import DataError
from peftlab.reading.unicode_text import Door
from peftlab.tasks.inputs.texts import Text, encode_texts

TEXTS = [
    Text("train:0", "Marie Curie moved from Warsaw to Paris .", "a", file="f.csv", line=2),
    Text("train:1", "", "b", file="f.csv", line=3),
    Text("train:2", "nothing happened today .", "a", file="f.csv", line=4),
]


def rows(encoded, name="tokens"):
    starts = encoded.arrays["examples"]
    return [encoded.arrays[name][a:b].tolist() for a, b in itertools.pairwise(starts)]


def test_tokens_are_those_of_the_tokenizer(tokenizer):
    encoded = encode_texts(TEXTS, tokenizer, 64)
    assert rows(encoded) == [tokenizer(text.text)["input_ids"] for text in TEXTS]
    assert encoded.lengths.tolist() == [len(row) for row in rows(encoded)]
    assert encoded.lengths[1] == 2  # the special tokens
    assert encoded.counts == {"truncated_texts": 0, "truncated_tokens": 0}
    assert encoded.arrays["types"].size == 0
    assert encoded.padding == tokenizer.pad_token_id


@pytest.mark.parametrize("max_tokens", [3, 5, 8])
def test_what_is_too_long_is_truncated_and_counted(tokenizer, max_tokens):
    whole, short = encode_texts(TEXTS, tokenizer, 64), encode_texts(TEXTS, tokenizer, max_tokens)
    assert short.lengths.tolist() == [min(n, max_tokens) for n in whole.lengths]
    assert short.counts == {
        "truncated_texts": sum(whole.lengths > max_tokens),
        "truncated_tokens": whole.lengths.sum() - short.lengths.sum(),
    }
    for cut, row in zip(rows(short), rows(whole), strict=True):
        assert cut == (row if len(row) <= max_tokens else [*row[: max_tokens - 1], tokenizer.sep_token_id])


PAIRS = [
    Text("train:0", "Ada moved to Rome .", "a", "nothing happened today ."),
    Text("train:1", "Rome", "b", "Marie Curie moved from Warsaw to Paris ."),
]


def test_pairs_have_types(tokenizer):
    encoded = encode_texts(PAIRS, tokenizer, 64)
    expected = [tokenizer(text.text, text.pair) for text in PAIRS]
    assert rows(encoded) == [each["input_ids"] for each in expected]
    assert rows(encoded, "types") == [each["token_type_ids"] for each in expected]
    assert {0, 1} == set(encoded.arrays["types"].tolist())


def test_of_a_pair_the_longer_text_is_truncated_first(tokenizer):
    whole, short = encode_texts(PAIRS, tokenizer, 64), encode_texts(PAIRS, tokenizer, 12)
    assert short.lengths.tolist() == [12, 12]
    first = tokenizer("Rome", add_special_tokens=False)["input_ids"]
    assert rows(short)[1][1 : 1 + len(first)] == first
    assert rows(short, "types")[1].count(1) == 12 - 2 - len(first)
    assert short.counts["truncated_tokens"] == (whole.lengths - 12).sum()


@pytest.mark.slow
@pytest.mark.parametrize("side", ["right", "left"])
def test_what_is_cut_is_what_the_tokenizer_would_cut(tokenizer, monkeypatch, side):
    monkeypatch.setattr(tokenizer, "truncation_side", side)
    words = ["paris", "moved", "nothing", ".", "to", "report"]
    texts = [" ".join(words[(start + n) % 6] for n in range(size)) for start in (0, 3) for size in (0, 1, 2, 5, 9, 20)]
    pairs = list(itertools.product(texts, texts))
    for max_tokens in (5, 6, 9, 12, 21):
        options = {"truncation": "longest_first", "max_length": max_tokens}
        of_pairs = encode_texts([Text("", one, "a", other) for one, other in pairs], tokenizer, max_tokens)
        expected = tokenizer([one for one, _ in pairs], [other for _, other in pairs], **options)
        assert rows(of_pairs) == expected["input_ids"]
        assert rows(of_pairs, "types") == expected["token_type_ids"]
        alone = encode_texts([Text("", text, "a") for text in texts], tokenizer, max_tokens)
        assert rows(alone) == tokenizer(texts, **options)["input_ids"]


def test_a_pair_of_long_texts_takes_no_more_than_the_texts(tokenizer):
    """The tokenizer's own truncation would make 200 million rows of what is cut off."""
    long = "paris " * 20_000
    encoded = encode_texts([Text("", long, "a", long)], tokenizer, 16)
    assert encoded.lengths.tolist() == [16]
    assert encoded.counts == {"truncated_texts": 1, "truncated_tokens": 2 * 20_000 + 3 - 16}


def test_a_model_that_asks_for_no_types_gets_none(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "model_input_names", ["input_ids", "attention_mask"])
    assert encode_texts(PAIRS, tokenizer, 64).arrays["types"].size == 0


def test_no_text_at_all(tokenizer):
    encoded = encode_texts([], tokenizer, 64)
    assert encoded.arrays["examples"].tolist() == [0]
    assert encoded.lengths.shape == (0,)


def test_a_row_needs_room_beside_the_special_tokens(tokenizer):
    with pytest.raises(DataError, match=r"data\.max_tokens=2 leaves no room besides 2 special tokens; set at least 3"):
        encode_texts(TEXTS, tokenizer, 2)
    with pytest.raises(DataError, match=r"data\.max_tokens=4 leaves no room besides 3 special tokens; set at least 5"):
        encode_texts(PAIRS, tokenizer, 4)


def test_one_text_among_pairs(tokenizer):
    with pytest.raises(DataError, match=r"f\.csv:2: this is one text, but others are pairs; add the second text"):
        encode_texts([*PAIRS, TEXTS[0]], tokenizer, 64)
    with pytest.raises(DataError, match="text:0: this is one text"):
        encode_texts([*PAIRS, Text("text:0", "a", None)], tokenizer, 64)


def test_every_text_of_it_is_changed():
    text = Text("a:0", "t\ud83d", "l\ud83d", "p\ud83d", "f", 3, "g\ud83d")
    assert text.mapped(Door()) == Text("a:0", "t\ufffd", "l\ufffd", "p\ufffd", "f", 3, "g\ufffd")
    assert Text("a:0", "t", None).mapped(Door()) == Text("a:0", "t", None)


@pytest.mark.parametrize(
    ("text", "pair"), [("a" * 1_000_001, None), ("a" * 600_000, "b" * 600_000), ("a ", "b" * 10**6)]
)
def test_a_text_that_would_take_all_memory_is_refused_by_its_place(tokenizer, text, pair):
    texts = [Text("text:0", "in", None, pair and "out"), Text("text:1", text, None, pair, file="my.csv", line=7)]
    with pytest.raises(DataError, match=r"^my\.csv:7: a text of [\d,]+ characters; at most 1,000,000"):
        encode_texts(texts, tokenizer, 64)
