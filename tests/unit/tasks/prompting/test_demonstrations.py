"""Demonstrations: balanced, nested, in an order of their own, and never the text itself."""

from __future__ import annotations

from collections import Counter

from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.prompting.demonstrations import drawn, others

LABELS = ["a", "b", "c"]
EXAMPLES = [Text(f"train:{n}", f"text {n}", LABELS[n % 3] if n % 7 else None) for n in range(60)]


def test_they_are_balanced_and_nested_and_labelled():
    few, many = drawn(EXAMPLES, LABELS, 4, seed=0), drawn(EXAMPLES, LABELS, 9, seed=0)
    assert set(Counter(one["label"] for one in many).values()) == {3}
    assert sorted(Counter(one["label"] for one in few).values()) == [1, 1, 2]
    assert {one["text"] for one in few} < {one["text"] for one in many}
    assert drawn(EXAMPLES, LABELS, 9, seed=0) == many
    assert drawn(EXAMPLES, LABELS, 9, seed=1) != many
    gold = {example.text: example.label for example in EXAMPLES}
    assert all(gold[one["text"]] == one["label"] for one in many)


def test_their_order_says_nothing_of_the_labels():
    firsts = Counter(drawn(EXAMPLES, LABELS, 6, seed)[0]["label"] for seed in range(60))
    assert set(firsts) == {*LABELS}
    assert max(firsts.values()) < 35


def test_all_are_shown_where_there_are_fewer():
    assert len(drawn(EXAMPLES[1:4], LABELS, 9, seed=0)) == 3


def test_no_example_is_shown_to_itself():
    shown = drawn(EXAMPLES, LABELS, 6, seed=0)
    (one,) = [example for example in EXAMPLES if example.text == shown[2]["text"]]
    assert others(shown, one) == [*shown[:2], *shown[3:]]
