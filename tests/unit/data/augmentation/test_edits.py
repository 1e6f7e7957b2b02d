"""Each augmentation by itself; what all must hold is in ``tests/contract/test_augmentations.py``."""

from __future__ import annotations

import random as python_random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from peftlab.data.augmentation.augmentation import Material
from peftlab.data.augmentation.case import Case
from peftlab.data.augmentation.context import Context
from peftlab.data.augmentation.delete import Delete
from peftlab.data.augmentation.insert import Insert
from peftlab.data.augmentation.mask import Mask
from peftlab.data.augmentation.mention import Mention
from peftlab.data.augmentation.neighbours import nearest
from peftlab.data.augmentation.swap import Swap
from peftlab.data.augmentation.synonym import Synonym
from peftlab.data.augmentation.typo import NEIGHBOURS, Typo
from peftlab.data.augmentation.wordnet import synonyms
from peftlab.errors import ConfigError, DataError, SourceError
from peftlab.sources import FilesSource
from peftlab.tasks.inputs.editable import EditableText, Span

SENTENCE = EditableText.of_words(
    ["Marie", "Curie", "quickly", "visited", "Paris", "with", "small", "children", "."],
    [Span(0, 2, "PER"), Span(4, 5, "LOC")],
)


def generators(number=50):
    return [np.random.default_rng(n) for n in range(number)]


def material(*texts, tokenizer=None, embeddings=None):
    return Material(list(texts), SimpleNamespace(tokenizer=tokenizer), lambda: embeddings)


class TestTypo:
    def test_the_keyboard_is_symmetric(self):
        assert set(NEIGHBOURS["g"]) == set("fhtyvb")
        assert all(letter in NEIGHBOURS[near] for letter, all_near in NEIGHBOURS.items() for near in all_near)

    @pytest.mark.parametrize(
        ("kind", "lengths"), [("neighbour", {0}), ("drop", {-1}), ("double", {1}), ("transpose", {0})]
    )
    def test_each_error_is_one_inner_edit(self, kind, lengths):
        for generator in generators():
            (word,) = Typo(kinds=[kind], alpha=1).edit(EditableText.of_words(["children"]), generator).words
            assert word != "children"
            assert len(word) - len("children") in lengths
            assert (word[0], word[-1]) == ("c", "n")
            if kind == "transpose":
                assert sorted(word) == sorted("children")

    def test_short_words_and_mentions_stay(self):
        for generator in generators():
            edited = Typo(alpha=1).edit(SENTENCE, generator)
            changed = [n for n in range(9) if edited.words[n] != SENTENCE.words[n]]
            assert changed == [2, 3, 5, 6, 7]
            assert Typo(alpha=1, mentions=True).edit(SENTENCE, generator).words[0] != "Marie"
        assert Typo().edit(EditableText.of_words(["it", "is"]), generators(1)[0]).words == ("it", "is")


def test_case_counts_only_what_changes():
    for generator in generators():
        assert Case(forms=["lower"]).edit(SENTENCE, generator) is SENTENCE
        edited = Case(forms=["lower"], alpha=1, mentions=True).edit(SENTENCE, generator)
        assert (edited.words[:2], edited.words[4]) == (("marie", "curie"), "paris")
        assert Case(forms=["lower", "upper"], alpha=1).edit(SENTENCE, generator).words[3] == "VISITED"


def test_deletion_keeps_a_word_and_all_spans():
    for generator in generators():
        assert Delete(alpha=1).edit(SENTENCE, generator).words == ("Marie", "Curie", "Paris", ".")
        assert len(Delete(alpha=1).edit(EditableText.of_text("two words"), generator).words) == 1
        assert Delete().edit(EditableText.of_text("one"), generator).words == ("one",)
        assert len(Delete(alpha=0.2).edit(SENTENCE, generator).words) == 7


def test_insertion_leaves_what_stands_together():
    for generator in generators():
        edited = Insert(alpha=1, marks=["!"]).edit(EditableText.of_text("It's fine."), generator)
        assert edited.text == "! It's ! fine."
        spans = Insert(alpha=1).edit(SENTENCE, generator).spans
        assert [(span.end - span.start, span.label) for span in spans] == [(2, "PER"), (1, "LOC")]


def test_a_swap_never_passes_a_mention():
    seen = set()
    for generator in generators():
        edited = Swap(alpha=0.1).edit(SENTENCE, generator)
        seen.add(edited.words[2:4] + edited.words[5:8])
        assert edited.spans == SENTENCE.spans
    assert seen == {
        ("visited", "quickly", "with", "small", "children"),
        ("quickly", "visited", "small", "with", "children"),
        ("quickly", "visited", "with", "children", "small"),
    }


def test_a_mask_token_is_needed():
    masks = Mask(alpha=1)
    masks.prepare(material(SENTENCE, tokenizer=SimpleNamespace(mask_token="[MASK]")))
    assert masks.edit(SENTENCE, generators(1)[0]).text == "Marie Curie [MASK] [MASK] Paris [MASK] [MASK] [MASK] ."
    with pytest.raises(ConfigError, match="no mask token"):
        Mask().prepare(material(SENTENCE, tokenizer=SimpleNamespace(mask_token=None)))


class TestMentions:
    other = EditableText.of_words(["in", "New", "York", "lives", "Noether"], [Span(1, 3, "LOC"), Span(4, 5, "PER")])
    third = EditableText.of_words(["Noether", "likes", "Rome"], [Span(0, 1, "PER"), Span(2, 3, "LOC")])

    def test_a_mention_is_replaced_within_its_type(self):
        replaces = Mention(alpha=1)
        replaces.prepare(material(SENTENCE, self.other))
        for generator in generators(5):
            edited = replaces.edit(SENTENCE, generator)
            assert edited.text == "Noether quickly visited New York with small children ."
            assert edited.spans == (Span(0, 1, "PER"), Span(3, 5, "LOC"))

    def test_without_another_mention_nothing_changes(self):
        replaces = Mention()
        replaces.prepare(material(SENTENCE))
        assert replaces.edit(SENTENCE, generators(1)[0]) is SENTENCE

    def test_a_context_takes_mentions_of_the_same_types_in_their_order(self):
        recombines = Context()
        recombines.prepare(material(SENTENCE, self.other, self.third))
        seen = {recombines.edit(SENTENCE, generator).text for generator in generators()}
        assert seen == {SENTENCE.text, "Marie Curie likes Paris"}
        assert recombines.edit(self.other, generators(1)[0]) is self.other


INDEX = """\
big%3:00:01:: 01382086 1 128
small%3:00:00:: 01391351 1 100
little%3:00:03:: 01391351 2 50
wee%5:00:00:small:00 01391351 3 0
small%1:15:00:: 05867413 1 1
waist%1:15:00:: 05867413 1 0
with%1:10:00:: 09999999 1 0
withal%1:10:00:: 09999999 1 0
very_little%3:00:00:: 01391351 4 0
"""


class TestSynonym:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "index.sense"
        file.write_text(INDEX)
        return file

    def test_synonyms_are_those_of_the_most_frequent_senses(self, file):
        words = {"small", "with", "big", "little"}
        assert synonyms(file, words, 1) == {"small": ("little", "wee"), "little": ("small", "wee")}
        assert synonyms(file, words, 2)["small"] == ("little", "wee", "waist")

    def test_another_format_is_refused(self, file):
        file.write_text("small 1 2\n")
        with pytest.raises(DataError, match=r"index\.sense:1: expected a sense key"):
            synonyms(file, {"small"}, 1)

    def test_words_are_replaced_as_they_are_written(self, file):
        replaces = Synonym(alpha=1, wordnet=FilesSource(path=file.parent))
        text = EditableText.of_text("Small children, SMALL or small.")
        replaces.prepare(material(text))
        seen = {replaces.edit(text, generator).text for generator in generators()}
        forms = [(first, second) for first in ("Little", "Wee") for second in ("little", "wee")]
        assert seen == {f"{first} children, SMALL or {second}." for first, second in forms}

    def test_a_run_goes_on_with_the_same_synonyms_only(self, file):
        text = EditableText.of_text("small")
        first = Synonym(wordnet=FilesSource(path=file.parent))
        first.prepare(material(text))
        again = Synonym(wordnet=FilesSource(path=file.parent), **first.resolved())
        again.prepare(material(text))
        file.write_text(INDEX.replace("wee", "tiny"))
        with pytest.raises(SourceError, match="have changed"):
            again.prepare(material(text))

    def test_neighbours_are_the_most_similar_whole_words(self):
        vocabulary = {"[PAD]": 0, "good": 1, "fine": 2, "bad": 3, "##ine": 4, ",": 5, "Good": 6}
        embeddings = np.asarray([[0, 0], [1, 0], [0.9, 0.1], [-1, 0], [1, 0], [1, 0], [1, 0]])
        tokenizer = SimpleNamespace(get_vocab=lambda: vocabulary, all_special_tokens=["[PAD]"])
        assert nearest(["good", "unseen"], tokenizer, embeddings, 1) == {"good": ("fine",)}

    def test_words_with_capitals_stay_whatever_the_source(self):
        names = ["Bonn", "Rome", "good", "fine", "Good"]
        tokenizer = SimpleNamespace(get_vocab=lambda: {name: n for n, name in enumerate(names)}, all_special_tokens=[])
        replaces = Synonym(alpha=1, source="embeddings", wordnet=FilesSource(path="."), neighbours=1)
        text = EditableText.of_text("Good and good in Bonn")
        replaces.prepare(material(text, tokenizer=tokenizer, embeddings=np.asarray([[0, 1.0]] * 2 + [[1.0, 0]] * 3)))
        assert replaces.edit(text, np.random.default_rng(0)).text == "Fine and fine in Bonn"

    def test_neighbours_in_byte_level_vocabularies(self):
        vocabulary = {"Ġgood": 0, "Ġfine": 1, "good": 2, "fine": 3}
        tokenizer = SimpleNamespace(get_vocab=lambda: vocabulary, all_special_tokens=[])
        assert nearest(["good"], tokenizer, np.eye(4), 5) == {"good": ("fine",)}


def test_global_generators_are_left_alone():
    np.random.seed(0)
    python_random.seed(0)
    before = np.random.get_state()[1].tolist(), python_random.getstate()
    for augmentation in (Typo(), Case(), Delete(), Insert(), Swap()):
        augmentation.edit(SENTENCE, np.random.default_rng(0))
    assert (np.random.get_state()[1].tolist(), python_random.getstate()) == before
