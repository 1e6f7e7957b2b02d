from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftlab.errors import DataError
from peftlab.reading.unicode_text import Door
from peftlab.tasks.inputs.words import NO_WORD, Sentence, encode_words

EMPTIED = ["\u200b", "\x00", "\ufeff", "\u00ad", "\u0301", "\u00a0", "\u2028", "\ufeff\u200b"]
"""Words of which the tokenizer leaves nothing."""


def sentence(*words: str) -> Sentence:
    return Sentence("train:0", list(words), ["O"] * len(words), "train.txt", list(range(1, len(words) + 1)))


def encode(tokenizer, *sentences: Sentence, max_tokens=64, long="split"):
    return encode_words(sentences, tokenizer, max_tokens, long)


def rows_of(encoded, number=0):
    """The rows of a sentence, each a list of (token id, position of the word that starts there or NO_WORD)."""
    tokens, word, rows = (encoded.arrays[name].tolist() for name in ("tokens", "word", "rows"))
    first, last = encoded.arrays["examples"][number : number + 2]
    pairs = list(zip(tokens, word, strict=True))
    return [pairs[rows[row] : rows[row + 1]] for row in range(first, last)]


def words_of(encoded, number=0):
    return [word for row in rows_of(encoded, number) for _, word in row if word != NO_WORD]


def texts_of(tokenizer, row):
    return tokenizer.convert_ids_to_tokens([token for token, _ in row])


def ids_of(tokenizer, word):
    """The tokens of a word by itself, which is how the words of a sentence are tokenised too."""
    return tokenizer(word, add_special_tokens=False)["input_ids"]


def test_the_first_token_of_every_word_is_marked(tokenizer):
    (row,) = rows_of(encode(tokenizer, sentence("the", "Paris", "was", ",")))
    assert texts_of(tokenizer, row) == ["[CLS]", "t", "##h", "##e", "paris", "w", "##a", "##s", ",", "[SEP]"]
    assert [word for _, word in row] == [NO_WORD, 0, NO_WORD, NO_WORD, 1, 2, NO_WORD, NO_WORD, 3, NO_WORD]


def test_a_word_that_the_tokenizer_cuts_at_punctuation_stays_one_word(tokenizer):
    (row,) = rows_of(encode(tokenizer, sentence("moved,paris", "rome")))
    assert texts_of(tokenizer, row) == ["[CLS]", "moved", ",", "paris", "rome", "[SEP]"]
    assert [word for _, word in row] == [NO_WORD, 0, NO_WORD, NO_WORD, 1, NO_WORD]


def test_sentences_lie_one_after_the_other(tokenizer):
    encoded = encode(tokenizer, sentence("Paris", "rome"), sentence(), sentence("moved"))
    assert [len(rows_of(encoded, number)) for number in range(3)] == [1, 1, 1]
    assert [words_of(encoded, number) for number in range(3)] == [[0, 1], [], [0]]
    assert encoded.lengths.tolist() == [4, 2, 3]
    assert encoded.arrays["rows"].tolist() == [0, 4, 6, 9]
    assert encoded.padding == tokenizer.pad_token_id
    assert encoded.counts == {"words": 3, "emptied": 0, "truncated": 0, "split_sentences": 0}


@pytest.mark.parametrize("word", EMPTIED)
def test_an_emptied_word_has_no_token_and_is_counted(tokenizer, word):
    encoded = encode(tokenizer, sentence("Paris", word, "rome", word))
    (row,) = rows_of(encoded)
    assert texts_of(tokenizer, row) == ["[CLS]", "paris", "rome", "[SEP]"]
    assert words_of(encoded) == [0, 2]
    assert encoded.counts == {"words": 4, "emptied": 2, "truncated": 0, "split_sentences": 0}


@pytest.mark.parametrize("long", ["split", "truncate"])
def test_a_sentence_of_only_emptied_words_is_a_row_without_words(tokenizer, long):
    encoded = encode(tokenizer, sentence(*EMPTIED), sentence("Paris"), long=long)
    (row,) = rows_of(encoded)
    assert texts_of(tokenizer, row) == ["[CLS]", "[SEP]"]
    assert words_of(encoded, 1) == [0]
    assert encoded.counts["emptied"] == len(EMPTIED)


def test_split_cuts_at_word_boundaries(tokenizer):
    # 3 + 1 + 3 + 1 + 3 tokens in rows with room for 5
    encoded = encode(tokenizer, sentence("the", "paris", "was", "rome", "the"), max_tokens=7)
    rows = rows_of(encoded)
    assert [texts_of(tokenizer, row) for row in rows] == [
        ["[CLS]", "t", "##h", "##e", "paris", "[SEP]"],
        ["[CLS]", "w", "##a", "##s", "rome", "[SEP]"],
        ["[CLS]", "t", "##h", "##e", "[SEP]"],
    ]
    assert words_of(encoded) == [0, 1, 2, 3, 4]
    assert encoded.lengths.tolist() == [6]  # of the longest row
    assert encoded.counts == {"words": 5, "emptied": 0, "truncated": 0, "split_sentences": 1}


def test_a_sentence_that_just_fits_is_not_split(tokenizer):
    encoded = encode(tokenizer, sentence("the", "paris"), max_tokens=6)
    assert len(rows_of(encoded)) == 1
    assert encoded.counts["split_sentences"] == 0
    assert len(rows_of(encode(tokenizer, sentence("the", "paris"), max_tokens=5))) == 2


def test_truncate_keeps_the_first_row_and_counts_the_words_that_are_lost(tokenizer):
    long = sentence("the", "paris", "was", "\u200b", "rome", "the")
    encoded = encode(tokenizer, long, sentence("paris"), max_tokens=7, long="truncate")
    (row,) = rows_of(encoded)
    assert texts_of(tokenizer, row) == ["[CLS]", "t", "##h", "##e", "paris", "[SEP]"]
    assert words_of(encoded) == [0, 1]
    assert words_of(encoded, 1) == [0]
    assert encoded.counts == {"words": 7, "emptied": 1, "truncated": 3, "split_sentences": 0}


@pytest.mark.parametrize("long", ["split", "truncate"])
def test_a_word_longer_than_a_row_is_cut_but_kept(tokenizer, long):
    word = "report" * 4  # 24 tokens
    encoded = encode(tokenizer, sentence(word, "paris"), max_tokens=8, long=long)
    first, *others = rows_of(encoded)
    assert [token for token, _ in first[1:-1]] == ids_of(tokenizer, word)[:6]
    assert [position for _, position in first] == [NO_WORD, 0] + [NO_WORD] * 6
    assert [texts_of(tokenizer, row) for row in others] == ([["[CLS]", "paris", "[SEP]"]] if long == "split" else [])
    assert encoded.counts["truncated"] == (0 if long == "split" else 1)


def test_rows_too_short_for_a_token_are_refused(tokenizer):
    with pytest.raises(DataError, match=r"data\.max_tokens=2 leaves no room besides 2 special tokens"):
        encode(tokenizer, sentence("paris"), max_tokens=2)
    assert words_of(encode(tokenizer, sentence("the", "paris"), max_tokens=3)) == [0, 1]


any_word = st.sampled_from(["the", "paris", "was", "rome", ",", "a,b", "zz", "report" * 3, *EMPTIED]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(any_word, max_size=12), min_size=1, max_size=4),
    st.integers(min_value=3, max_value=14),
    st.sampled_from(["split", "truncate"]),
)
def test_rows_hold_every_word_that_has_tokens_in_order(tokenizer, all_words, max_tokens, long):
    encoded = encode(tokenizer, *(sentence(*words) for words in all_words), max_tokens=max_tokens, long=long)
    room = max_tokens - 2
    lost = 0
    for number, words in enumerate(all_words):
        with_tokens = [position for position, word in enumerate(words) if ids_of(tokenizer, word)]
        rows = rows_of(encoded, number)
        assert all(2 <= len(row) <= max_tokens for row in rows)
        assert encoded.lengths[number] == max(len(row) for row in rows)
        for row in rows:
            assert row[0] == (tokenizer.cls_token_id, NO_WORD)
            assert row[-1] == (tokenizer.sep_token_id, NO_WORD)
            assert len(row) == 2 or row[1][1] != NO_WORD  # no row begins inside a word
        found = words_of(encoded, number)
        assert found == with_tokens[: len(found)]
        lost += len(with_tokens) - len(found)
        content = [token for row in rows for token, _ in row[1:-1]]
        assert content == [token for position in found for token in ids_of(tokenizer, words[position])[:room]]
    assert lost == encoded.counts["truncated"]
    assert long == "truncate" or lost == 0


def test_every_text_of_a_sentence_is_changed_and_stays_in_its_place():
    sentence = Sentence(
        "a:0", ["x\ud83d", "", "\udc00y", "z"], ["B-\ud83d", "O", "O", "O"], "f", [1, 2, 3, 4], group="\ud83d"
    )
    changed = sentence.mapped(Door())
    assert changed.words == ["x\ufffd", "", "\ufffdy", "z"]
    assert (changed.tags, changed.group) == (["B-\ufffd", "O", "O", "O"], "\ufffd")
    assert (changed.id, changed.file, changed.lines, changed.place) == ("a:0", "f", [1, 2, 3, 4], "f:1")
    plain = Sentence("a:0", ["x", "y"], ["O", "O"], text="x y", spans=[(0, 1), (2, 3)])
    assert plain.mapped(Door()) == plain


@pytest.mark.parametrize("words", [["a" * 1_000_001], ["ab"] * 500_001], ids=["one word", "many words"])
def test_a_sentence_that_would_take_all_memory_is_refused_by_its_place(tokenizer, words):
    long = Sentence("text:1", words, ["O"] * len(words), file="my.conll", lines=[7])
    with pytest.raises(DataError, match=r"^my\.conll:7: a text of 1,000,00\d characters; at most 1,000,000"):
        encode(tokenizer, sentence("in"), long)
