"""The texts by which answers are calibrated."""

from __future__ import annotations

from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.prompting.calibration import CONTENT_FREE, reference_texts

SEEN = [Text("train:0", "one two three", "a"), Text("train:1", "four five", "b"), Text("train:2", "six", "a")]


def test_texts_without_content_do_not_depend_on_the_data():
    found = reference_texts("contextual", SEEN, seed=0)
    assert [(one.text, one.pair, one.label) for one in found] == [(text, None, None) for text in CONTENT_FREE]


def test_random_texts_are_words_of_the_domain_as_many_as_a_text_has():
    found = reference_texts("domain", SEEN, seed=0)
    assert len(found) == 20
    words = {word for one in SEEN for word in one.text.split()}
    assert all(len(one.text.split()) == 2 and {*one.text.split()} <= words for one in found)
    assert len({one.text for one in found}) > 10
    assert found == reference_texts("domain", SEEN, seed=0) != reference_texts("domain", SEEN, seed=1)


def test_random_words_of_texts_without_spaces_are_characters():
    seen = [Text("train:0", "今天天气很好", "a"), Text("train:1", "iPhone 很贵", "b")]
    found = reference_texts("domain", seen, seed=0)
    assert len({one.text for one in found}) > 10
    assert not any("今天天气" in one.text or "今 天" in one.text for one in found)
    assert any(" " in one.text for one in found)  # beside the word of letters


def test_pairs_stay_pairs():
    pairs = [Text(f"train:{n}", "a b", "x", pair="c") for n in range(3)]
    for kind in ("contextual", "domain", "batch"):
        assert all(one.pair is not None for one in reference_texts(kind, pairs, seed=0))
