from __future__ import annotations

import itertools
import random
import re

import pytest

from peftlab.data.duplicates import ALIKE, COMMON, RUN, near_duplicates, repeated


class TestRepeated:
    def test_by_hand(self):
        texts = ["a", "b", "a", "c", "b", "a", "d", "b"]
        gold = [1, 1, 1, 1, 2, 1, 1, 1]
        assert repeated(texts, gold) == ([2, 5], [1, 4, 7])

    def test_nothing_is_there_twice(self):
        assert repeated(["a", "b"], [1, 1]) == ([], [])

    @pytest.mark.parametrize("seed", range(5))
    def test_what_is_left_is_there_once_and_undisputed(self, seed):
        draw = random.Random(seed)
        texts = [draw.choice("abcdefgh") for _ in range(30)]
        gold = [draw.choice([[1], [1], [2]]) for _ in texts]
        duplicates, conflicts = repeated(texts, gold)
        left = [n for n in range(30) if n not in {*duplicates, *conflicts}]
        assert len({*duplicates, *conflicts}) == len(duplicates) + len(conflicts)
        assert len({texts[n] for n in left}) == len(left)
        meanings = {text: {tuple(gold[n]) for n in range(30) if texts[n] == text} for text in texts}
        assert {texts[n] for n in left} == {text for text, found in meanings.items() if len(found) == 1}


def by_definition(texts: list[str]) -> list[int]:
    """The groups, from every pair of texts."""
    runs = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        words += [""] * (RUN - len(words))
        runs.append({tuple(words[n : n + RUN]) for n in range(len(words) - RUN + 1)})
    groups = list(range(len(texts)))
    for a, b in itertools.combinations(range(len(texts)), 2):
        if len(runs[a] & runs[b]) >= ALIKE * len(runs[a] | runs[b]):
            one, other = sorted((groups[a], groups[b]))
            groups = [one if group == other else group for group in groups]
    return groups


class TestNearDuplicates:
    @pytest.mark.parametrize("seed", range(10))
    def test_it_is_the_definition(self, seed):
        draw = random.Random(seed)
        texts = [" ".join(draw.choices("abcde", k=draw.randint(0, 12))) for _ in range(20)]
        for _ in range(30):  # some of them changed a little
            words = draw.choice(texts).split()
            if words:
                words[draw.randrange(len(words))] = draw.choice("abcde")
            texts.append(" ".join([*words, *draw.choices("abcde", k=draw.randint(0, 3))]))
        groups = near_duplicates(texts)
        assert groups == by_definition(texts)
        assert 1 < len(set(groups)) < len(texts)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("The ground was wet, and so it goes.", "the ground was WET and so it goes"),
            ("we saw the car again http://t.co/abc", "We saw the car again http://t.co/xyz"),
            ("yes", "YES!"),
            ("北京大学在中国的首都北京", "北京大学在中国的首都南京"),
            ("one two three four five six seven eight nine", "zero one two three four five six seven eight nine"),
        ],
    )
    def test_alike(self, one, other):
        assert near_duplicates(["unrelated", one, other, "more of it"]) == [0, 1, 1, 3]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("yes", "no"),
            ("one two three four", "one two three four five"),
            ("the report of the committee on trade was read", "the report of the minister of the interior was read"),
        ],
    )
    def test_not_alike(self, one, other):
        assert near_duplicates([one, other]) == [0, 1]

    def test_a_phrase_of_very_many_texts_makes_no_pairs(self):
        texts = [f"follow us on all of our channels {n}" for n in range(COMMON + 1)]
        assert near_duplicates(texts) == list(range(COMMON + 1))
        assert set(near_duplicates(texts[:COMMON])) == {0}

    @pytest.mark.parametrize("texts", [[], [""], ["a"], ["", "..."]])
    def test_hardly_any_text(self, texts):
        assert near_duplicates(texts) == [0] * len(texts)
