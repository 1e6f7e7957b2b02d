"""Counterfactual augmentation: terms move together, their case stays, and mentions stay unless they may change."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from peftlab.data.augmentation.augmenter import Augmenter
from peftlab.data.augmentation.counterfactual import Counterfactual
from peftlab.errors import ConfigError, SourceError
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.editable import EditableText, Span
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.task import Selection


@pytest.fixture
def edited():
    def edit(text, spans=(), **options):
        augmentation = Counterfactual(**options)
        augmentation.prepare(SimpleNamespace())
        made = augmentation.edit(EditableText.of_words(text.split(), spans), np.random.default_rng(0))
        return made.text

    return edit


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("She said HER son saw her .", "He said HIS daughter saw him ."),
        ("he gave his book to him", "she gave her book to her"),
        ("the book is hers , and she told her to go", "the book is his , and he told him to go"),
        ("The actress met two kings", "The actor met two queens"),
    ],
)
def test_all_terms_of_a_text_change_sides(edited, text, other):
    assert edited(text) == other


def test_twice_is_the_text_itself(edited):
    text = "Mr Smith and his wife saw the waiter and a girl"
    assert edited(edited(text)) == text


def test_mentions_change_if_they_may(edited):
    text, spans = "Mary met her boss in Paris", [Span(0, 1, "PER")]
    assert edited(text, spans, terms=["gender", "names"]) == "Mary met his boss in Paris"
    assert edited(text, spans, terms=["gender", "names"], mentions=True) == "James met his boss in Paris"
    assert edited("she said so", [Span(0, 1)], mentions=True) == "she said so"  # an answer stays


def test_of_many_groups_all_terms_go_on_alike():
    augmentation = Counterfactual(terms=["religion"])
    augmentation.prepare(SimpleNamespace())
    text = EditableText.of_words(["The", "imam", "of", "the", "mosque", "read", "the", "Quran"])
    seen = {augmentation.edit(text, np.random.default_rng(seed)).text for seed in range(40)}
    assert seen == {
        "The rabbi of the synagogue read the Torah",
        "The pandit of the mandir read the Vedas",
        "The lama of the pagoda read the Tripitaka",
        "The priest of the church read the Bible",
    }


def test_the_texts_of_an_example_become_about_the_same_group():
    augmentation = Counterfactual(terms=["religion"])
    augmentation.prepare(SimpleNamespace())
    pair = [EditableText.of_words([article, "imam", "prayed"]) for article in ("An", "The")]
    seen = set()
    for seed in range(40):
        one, other = augmentation.edit_all(pair, np.random.default_rng(seed))
        assert one.words[1] == other.words[1]
        assert augmentation.edit_all(pair[:1], np.random.default_rng(seed)) == [one]
        assert augmentation.edit(pair[0], np.random.default_rng(seed)) == one
        seen.add(one.words[1])
    assert seen == {"rabbi", "pandit", "lama", "priest"}


def test_other_terms_or_one_group_are_refused(tmp_path):
    file = tmp_path / "terms.txt"
    file.write_text("one | two\nshe | he\n")
    augmentation = Counterfactual(terms=[str(file)])
    augmentation.prepare(SimpleNamespace())
    file.write_text("one | two\nher | him\n")
    with pytest.raises(SourceError, match="the terms have changed"):
        Counterfactual(terms=[str(file)], sha256=augmentation.sha256).prepare(SimpleNamespace())
    file.write_text("one\nshe\n")
    with pytest.raises(ConfigError, match="has the one group 'one'"):
        Counterfactual(terms=[str(file)]).prepare(SimpleNamespace())


def test_the_texts_of_a_pair_are_edited_together():
    task = Classification(name="classification", selection=Selection(metric="macro_f1"))
    swap = Counterfactual(terms=["religion"], share=1.0)
    swap.prepare(SimpleNamespace())
    augmenter = Augmenter({"counterfactual": swap}, task, None, None, 0, None)
    for n in range(20):
        one = augmenter.example(Text(f"train:{n}", "An imam prayed .", "same", "The imam has prayed ."), 0)
        assert one.text.split()[1] == one.pair.split()[1] != "imam"
