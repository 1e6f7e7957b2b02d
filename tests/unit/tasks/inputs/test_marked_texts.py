"""Texts with marked entities, and where these are in their tokens."""

from __future__ import annotations

import itertools
import random

import pytest

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.inputs.marked_texts import MarkedText, encode_marked, marker_ids


def text(marked: str) -> MarkedText:
    return MarkedText.of_marked(marked, "train:0", "a")


def rows(encoded):
    return [encoded.arrays["tokens"][a:b].tolist() for a, b in itertools.pairwise(encoded.arrays["examples"])]


@pytest.mark.parametrize(
    "marked",
    [
        "<e1>Ada</e1> moved to <e2>Rome</e2> .",
        "<e2>Rome</e2><e1>Ada</e1>",
        "x <e1>New <e2>York</e2></e1> y",
        "x <e1><e2>New</e2> York</e1> y",
        "<e2>a <e1>b</e2> c</e1>",
    ],
)
def test_marks_are_read_and_written(marked):
    assert text(marked).marked == marked


def test_entities_have_no_white_space_around_them():
    one = text("an <e1> array </e1> of <e2>\telements</e2>")
    assert one.text[slice(*one.head)] == "array"
    assert one.text[slice(*one.tail)] == "elements"


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ("Ada <e2>Rome</e2>", "it lacks <e1>"),
        ("<e1>a</e1> <e2>b</e2> <e1>", "it has <e1> twice"),
        ("</e1>a<e1> <e2>b</e2>", "its head, characters 1 to 0 of 3, is no part"),
        ("<e1></e1> <e2>b</e2>", "its head, characters 0 to 0"),
        ("<e1> </e1> <e2>b</e2>", "its head, characters 0 to 1"),
        ("<e1><e2>b</e2></e1>", "its head and its tail are the same"),
    ],
)
def test_faulty_marks_are_named(marked, message):
    with pytest.raises(ValueError, match=message):
        text(marked)


def test_the_text_is_tokenised_as_without_markers_and_entities_are_between_them(tokenizer):
    a, b, c, d = ids = marker_ids(tokenizer, [".", ",", "m", "w"])
    plain = tokenizer("Ada moved to New York .")["input_ids"]
    encoded = encode_marked(
        [text("<e1>Ada</e1> moved to <e2>New York</e2> ."), text("<e2>Ada</e2> moved to <e1>New York</e1> .")],
        tokenizer,
        64,
        [".", ",", "m", "w"],
    )
    for row, (head, tail), order in zip(rows(encoded), encoded.arrays["entities"], [0, 1], strict=True):
        first, last = (head, tail) if order == 0 else (tail, head)
        assert (row[head[0]], row[head[1] - 1], row[tail[0]], row[tail[1] - 1]) == (a, b, c, d)
        assert first[0] == 1
        assert tokenizer.decode(row[first[0] + 1 : first[1] - 1]) == "ada"
        assert tokenizer.decode(row[last[0] + 1 : last[1] - 1]) == "new york"
        removed = {int(place) for span in (head, tail) for place in (span[0], span[1] - 1)}
        assert [token for place, token in enumerate(row) if place not in removed] == plain
    assert encoded.counts == {"truncated_texts": 0, "truncated_tokens": 0, "cut_between": 0}
    assert len(set(ids)) == 4


def test_entities_in_one_another_are_marked_in_one_another(tokenizer):
    encoded = encode_marked([text("<e1>New <e2>York</e2></e1> today")], tokenizer, 64, [".", ","])
    head, tail = encoded.arrays["entities"][0].tolist()
    assert head[0] < tail[0] < tail[1] < head[1]
    (row,) = rows(encoded)
    dot, comma = marker_ids(tokenizer, [".", ","])[::2]
    assert (row[head[0]], row[tail[0]], row[tail[1] - 1], row[head[1] - 1]) == (dot, comma, comma, dot)


@pytest.mark.parametrize("max_tokens", [9, 12, 20, 40])
def test_a_long_text_keeps_its_entities_and_what_is_between_them(tokenizer, max_tokens):
    """Whole where it fits; the tokens that are nearest to either entity where it does not."""
    draw = random.Random(max_tokens)
    for _ in range(40):
        letters = [draw.choice("mwraecb") for _ in range(draw.randint(4, 60))]
        one, other = sorted(draw.sample(range(len(letters)), 2))
        names = ("e1", "e2") if draw.random() < 0.5 else ("e2", "e1")
        for place, name in ((one, names[0]), (other, names[1])):
            letters[place] = f"<{name}>{letters[place]}</{name}>"
        encoded = encode_marked([text(" ".join(letters))], tokenizer, max_tokens, "auto")
        (row,) = rows(encoded)
        whole = len(letters) + 6
        assert len(row) == encoded.lengths[0] == min(whole, max_tokens)
        assert encoded.arrays["truncated"][0] == whole - len(row)
        assert bool(encoded.arrays["cut_between"][0]) == (other - one + 1 + 6 > max_tokens)
        plain = tokenizer(text(" ".join(letters)).text, add_special_tokens=False)["input_ids"]
        for (start, end), place in zip(
            encoded.arrays["entities"][0], (one, other) if names[0] == "e1" else (other, one), strict=True
        ):
            assert row[start + 1 : end - 1] == [plain[place]]


def test_of_an_entity_longer_than_a_row_the_beginning_is_kept(tokenizer):
    encoded = encode_marked([text("<e1>m w r a e c b</e1> <e2>Ada</e2>")], tokenizer, 10, "auto")
    (row,), (head, tail) = rows(encoded), encoded.arrays["entities"][0]
    assert tokenizer.decode(row[head[0] + 1 : head[1] - 1]).startswith("m w")
    assert tail[1] - tail[0] >= 3
    assert encoded.arrays["cut_between"].tolist() == [1]


def test_what_has_no_token_is_marked_where_it_stands(tokenizer):
    encoded = encode_marked([text("Ada <e1>\u200b</e1> moved <e2>Rome</e2>")], tokenizer, 64, "auto")
    head = encoded.arrays["entities"][0, 0]
    assert (head[1] - head[0], encoded.arrays["empty"].tolist()) == (2, [1])


def test_markers_are_tokens_of_the_vocabulary(tokenizer):
    before, after, begin, end = marker_ids(tokenizer, "auto")
    assert before == after != begin == end
    assert not {before, begin} & set(tokenizer.all_special_ids)
    with pytest.raises(ConfigError, match=r"task\.markers: '\[e1\]' is not one token"):
        marker_ids(tokenizer, [".", "[e1]"])
    with pytest.raises(ConfigError, match="are the same"):
        marker_ids(tokenizer, [".", "."])
    with pytest.raises(DataError, match="leaves no room besides 6 special tokens and markers; set at least 8"):
        encode_marked([text("<e1>Ada</e1> <e2>Rome</e2>")], tokenizer, 7, "auto")


def test_the_rare_characters_of_real_vocabularies_are_chosen():
    class Known:
        all_special_ids = (0,)

        def __init__(self, *tokens):
            self.tokens = tokens

        def get_vocab(self):
            return {token: n for n, token in enumerate(self.tokens)}

    assert marker_ids(Known("[PAD]", "a", "@", "#", "$"), "auto") == (2, 2, 3, 3)
    assert marker_ids(Known("<s>", "a", "Ġ$", "Ġ@"), "auto") == (3, 3, 2, 2)
    assert marker_ids(Known("<s>", "▁#", "b", "a"), "auto") == (1, 1, 2, 2)
