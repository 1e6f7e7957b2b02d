from __future__ import annotations

import pytest

from peftlab.tasks.inputs.editable import EditableText, Span


@pytest.mark.parametrize("text", ["", "  ", "One.", " It's  a (small) test,\nno more! ", "我爱北京。", "a\u0301 b"])
def test_a_text_keeps_its_white_space(text):
    read = EditableText.of_text(text)
    assert read.text == text
    assert len(read.spaces) == len(read.words) + 1
    assert not any(space.strip() for space in read.spaces)
    assert [text[read.offset(n) :][: len(word)] for n, word in enumerate(read.words)] == list(read.words)


def test_a_protected_slice_is_one_word():
    text = "Who won? The old man from Rome won."
    (start, end) = text.index("old"), text.index(" won.")
    read = EditableText.of_text(text, [(start, end)])
    assert read.text == text
    (span,) = read.spans
    assert read.words[span.start : span.end] == ("old man from Rome",)
    assert (read.mentions, len(read.free)) == ([], len(read.words) - 1)
    changed = read.replaced({0: ["And", "who"], 1: []})
    assert changed.text == "And who? The old man from Rome won."
    assert changed.offset(changed.spans[0].start) == changed.text.index("old")


class TestReplaced:
    text = EditableText.of_words(["Marie", "Curie", "left", "Paris", "."], [Span(0, 2, "PER"), Span(3, 4, "LOC")])

    def test_spans_move_with_their_words(self):
        changed = self.text.replaced({2: ["quickly", "left"]})
        assert changed.text == "Marie Curie quickly left Paris ."
        assert changed.spans == (Span(0, 2, "PER"), Span(4, 5, "LOC"))
        assert self.text.replaced({4: [], 2: []}).spans == (Span(0, 2, "PER"), Span(2, 3, "LOC"))

    def test_a_mention_may_get_other_words(self):
        changed = self.text.replaced({0: ["Noether"], 1: [], 3: ["New", "York"]})
        assert changed.words == ("Noether", "left", "New", "York", ".")
        assert changed.spans == (Span(0, 1, "PER"), Span(2, 4, "LOC"))

    def test_a_mention_keeps_a_word_and_an_answer_all(self):
        with pytest.raises(ValueError, match="may not become"):
            self.text.replaced({0: [], 1: []})
        answer = EditableText.of_text("It is Rome.", [(6, 10)])
        with pytest.raises(ValueError, match="may not become"):
            answer.replaced({2: ["Paris"]})

    @pytest.mark.parametrize(
        ("text", "position", "words", "expected"),
        [
            ("The cat sat.", 0, [], "cat sat."),
            ("The cat sat.", 2, [], "The cat."),
            ("the (cat)", 1, [], "the cat)"),
            ("I don't", 1, [], "I n't"),
            ("我爱北京", 1, [], "我北京"),
            ("我爱北京", 1, ["!", "爱"], "我!爱北京"),
        ],
    )
    def test_words_stay_apart(self, text, position, words, expected):
        assert EditableText.of_text(text).replaced({position: words}).text == expected
