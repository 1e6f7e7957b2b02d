"""Questions and the windows that their texts are read through."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from transformers import AutoTokenizer

from peftlab.data.encoded_blocks import joined
from peftlab.errors import DataError
from peftlab.tasks.extractive_qa import ExtractiveQa
from peftlab.tasks.inputs.questions import (
    NO_TEXT,
    Answer,
    Question,
    check_answers,
    encode_questions,
    moved,
    token_bounds,
)
from peftlab.tasks.task import IGNORED, Selection

CONTEXT = " ".join(f"{word} moved from paris to rome ." for word in ("maria", "ali", "nothing", "today"))


def about(answer, context=CONTEXT, question="today"):
    start = context.index(answer)
    return Question("train:0", question, context, (Answer(answer, start),), "file:1")


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def task(**options):
    return ExtractiveQa(name="qa", selection=Selection(metric="f1"), **options)


def windows_of(encoded, n=0):
    rows, starts = encoded.arrays["rows"], encoded.arrays["examples"]
    return [slice(rows[row], rows[row + 1]) for row in range(starts[n], starts[n + 1])]


def test_windows_cover_the_text_and_share_their_stride(tokenizer):
    whole = encode_questions([about("rome")], tokenizer, 512, 0, "split")
    assert len(windows_of(whole)) == 1
    text = whole.arrays["characters"]
    text = text[text[:, 0] != NO_TEXT].tolist()
    for max_tokens in (12, 17, 40):
        for stride in (0, 1, 4, 1000):
            encoded = encode_questions([about("rome")], tokenizer, max_tokens, stride, "split")
            room, pieces = max_tokens - 4, []
            for window in windows_of(encoded):
                places = encoded.arrays["characters"][window]
                assert len(places) <= max_tokens
                pieces.append(places[places[:, 0] != NO_TEXT].tolist())
                assert encoded.arrays["tokens"][window][0] == tokenizer.cls_token_id
            shared = min(stride, room // 2)
            assert all(len(piece) == room for piece in pieces[:-1])
            assert all(one[len(one) - shared :] == other[:shared] for one, other in itertools.pairwise(pieces))
            assert pieces[0] + [place for piece in pieces[1:] for place in piece[shared:]] == text
            assert encoded.counts["windows"] == len(pieces) == encoded.rows[0]
            assert encoded.tokens.tolist() == [len(encoded.arrays["tokens"])]


def test_the_gold_is_the_same_whatever_the_windows(tokenizer):
    """In each window that counts, the tokens of the gold are those of the answer."""
    for answer in ("rome", "paris to rome", "today", "from paris", CONTEXT[:20], "ome", "aris to ro"):
        one = about(answer)
        for max_tokens in (24, 40, 512):
            for stride in (9, 12, 64):
                encoded = encode_questions([one], tokenizer, max_tokens, stride, "split")
                bounds = token_bounds(one, encoded, 0, no_answer=False)
                counted = [n for n, (first, _) in enumerate(bounds) if first != IGNORED]
                assert counted
                for n in counted:
                    places = encoded.arrays["characters"][windows_of(encoded)[n]]
                    start, end = places[bounds[n, 0], 0], places[bounds[n, 1], 1]
                    first, last = one.answers[0].start, one.answers[0].end
                    assert start <= first
                    assert end >= last
                    assert one.context[start:end].count(" ") == answer.count(" ")


@pytest.mark.parametrize("cases", [10, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_the_gold_of_random_texts_is_the_same_for_every_stride(tokenizer, cases):
    """Of up to 40 characters, which are fewer tokens than any two windows share."""
    draw = random.Random(cases)
    pieces = [*CONTEXT.split(), "Été", "naïve", "北京大学", "2008年", "(U.S.)", "x\u200dy", "\U0001f642", "-", "\u2013"]
    for _ in range(cases):
        words = draw.choices(pieces, k=draw.choice([1, 30, 200, 500]))
        context = "".join(word + draw.choice(["", " ", " ", "\n", "\u3000"]) for word in [*words, "rome"])
        letters = [n for n, character in enumerate(context) if character.isalpha()]
        first = draw.choice(letters)
        last = draw.choice([n for n in letters if first <= n < first + 40])
        one = Question("train:0", "today ?", context, (Answer(context[first : last + 1], first),))
        gold = set()
        for max_tokens, stride in itertools.product((128, 256, 512), (64, 128, 256)):
            encoded = encode_questions([one], tokenizer, max_tokens, stride, "split")
            bounds = token_bounds(one, encoded, 0, no_answer=False)
            assert (bounds[:, 0] != IGNORED).any()
            for window, (begin, end) in zip(windows_of(encoded), bounds, strict=True):
                if begin != IGNORED:
                    places = encoded.arrays["characters"][window]
                    gold.add((places[begin, 0], places[end, 1]))
        ((start, end),) = gold
        assert start <= first < last + 1 <= end


def test_a_window_without_the_whole_answer_counts_only_where_there_may_be_none(tokenizer):
    one, nothing, unknown = about("maria"), about("rome"), about("rome")
    object.__setattr__(nothing, "answers", ())
    object.__setattr__(unknown, "answers", None)
    for no_answer in (False, True):
        qa = task(stride=4, no_answer=no_answer)
        encoded = encode_questions([one, nothing, unknown], tokenizer, 16, 4, "split")
        batch = qa.collate([one, nothing, unknown], encoded, [0, 1, 2])
        number = int(encoded.rows[0])
        assert number > 2
        assert batch.weights.tolist() == ([number, number, 0] if no_answer else [1, 0, 0])
        bounds = batch.targets["bounds"].tolist()
        elsewhere = [0, 0] if no_answer else [IGNORED, IGNORED]
        assert bounds[0] != elsewhere
        assert bounds[1:number] == [elsewhere] * (number - 1)
        assert bounds[number : 2 * number] == [elsewhere] * number
        assert bounds[2 * number :] == [[IGNORED, IGNORED]] * number
        assert batch.targets["candidates"][:, 0].tolist() == [no_answer] * len(bounds)  # the classification token
        assert not batch.targets["candidates"][:, 1:3].any()  # the question


def test_a_text_may_lose_its_end(tokenizer):
    encoded = encode_questions([about("rome")], tokenizer, 16, 4, "truncate")
    assert len(windows_of(encoded)) == 1
    assert encoded.counts["truncated_tokens"] == encoded.arrays["truncated"][0] > 0


def test_an_answer_that_is_cut_off_is_not_learnt_as_whole(tokenizer):
    for answer, is_whole in (("paris", True), ("from paris", True), ("paris to rome", False), (CONTEXT, False)):
        one = about(answer)
        cut = encode_questions([one], tokenizer, 512, 0, "split").arrays["characters"][:, 1].tolist()
        size = cut.index(CONTEXT.index("paris") + len("paris")) + 2  # the text ends with it, before the separator
        encoded = encode_questions([one], tokenizer, size, 0, "truncate")
        for no_answer, elsewhere in ((False, IGNORED), (True, 0)):
            ((first, last),) = token_bounds(one, encoded, 0, no_answer)
            assert (first != elsewhere, last != elsewhere) == (is_whole, is_whole)


def test_a_question_that_fills_the_row_is_named(tokenizer):
    with pytest.raises(DataError, match=r"file:1: the question takes 11 tokens.*none of\s+data.max_tokens=10"):
        encode_questions([about("rome", question="today " * 8)], tokenizer, 10, 4, "split")
    assert encode_questions([Question("text:0", "today", "")], tokenizer, 10, 4, "split").arrays["empty"].tolist() == [
        1
    ]


def test_the_token_of_no_answer_is_found_wherever_it_is(tokenizer):
    class Last:
        """A tokenizer whose rows end with the classification token, as XLNet's do."""

        def __getattr__(self, name):
            return tokenizer.sep_token_id if name == "cls_token_id" else getattr(tokenizer, name)

        def __call__(self, *texts, **options):
            return tokenizer(*texts, **options)

    encoded = encode_questions([about("rome", question="")], Last(), 20, 4, "split")
    for place, window in zip(encoded.arrays["null"], windows_of(encoded), strict=True):
        assert encoded.arrays["tokens"][window][place] == tokenizer.sep_token_id


def test_blocks_are_joined_to_the_same(tokenizer):
    questions = [about("rome"), about("paris", "paris ."), about("today")] * 3
    whole = encode_questions(questions, tokenizer, 20, 4, "split")
    blocks = [encode_questions(questions[n : n + 2], tokenizer, 20, 4, "split") for n in range(0, 9, 2)]
    again = joined(blocks, ExtractiveQa.pointers)
    assert whole.counts == again.counts
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(values, again.arrays[name])
        assert values.dtype == again.arrays[name].dtype


def test_an_answer_stands_where_it_says():
    check_answers(about("rome"))
    for start, message in ((3, "first stands at"), (-4, "first stands at"), (10**9, "first stands at")):
        with pytest.raises(DataError, match=rf"file:1: the answer 'rome' does not begin at {start}. It {message}"):
            check_answers(Question("train:0", "?", CONTEXT, (Answer("rome", start),), "file:1"))


def test_texts_are_changed_character_by_character():
    one = Question("train:0", "w\ud800", "a\ud800b", (Answer("\ud800b", 1),), group="\ud800")
    mapped = one.mapped(lambda text: text.replace("\ud800", "?"))
    assert (mapped.question, mapped.context, mapped.answers, mapped.group) == ("w?", "a?b", (Answer("?b", 1),), "?")


def test_answers_move_with_the_text():
    text = "rome and paris, said ali of rome"
    answers = (Answer("paris, said", 9), Answer("paris", 9), Answer("said ali", 16), Answer("rome", 0))
    one = Question("train:0", "who ?", text, answers)
    texts = task().editable(one)
    assert [texts[1].words[span.start] for span in texts[1].spans] == ["rome", "paris, said ali"]
    assert moved(one, texts) == one
    changed = texts[1].replaced({1: ["as", "well", "as"], 3: []})
    other = moved(one, [texts[0], changed])
    assert other.context == "rome as well as paris, said ali rome"
    assert [answer.text for answer in other.answers] == [answer.text for answer in answers]
    check_answers(other)
    unknown = Question("text:0", "who ?", text)
    assert moved(unknown, task().editable(unknown)) == unknown
