from __future__ import annotations

import itertools
import random
import re

import pytest

from peftlab.data import divided_shingles
from peftlab.data.duplicates import near_duplicates, repeated
from peftlab.data.shingles import ALIKE, COMMON, RUN
from peftlab.data.views import View
from peftlab.errors import DiskError


class Lazy(View[str]):
    """Texts that count as many."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, place: int) -> str:
        return self.texts[place]


class TestRepeated:
    @pytest.mark.parametrize("view", [False, True])
    def test_by_hand(self, view):
        texts = ["a", "b", "a", "c", "b", "a", "d", "b"]
        gold = [1, 1, 1, 1, 2, 1, 1, 1]
        assert repeated(Lazy(texts) if view else texts, gold) == ([2, 5], [1, 4, 7])

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
        groups = list(near_duplicates(texts))
        assert groups == by_definition(texts)
        assert 1 < len(set(groups)) < len(texts)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("The ground was wet, and so it goes.", "the ground was WET and so it goes"),
            ("we saw the car again http://t.co/abc", "We saw the car again http://t.co/xyz"),
            ("yes", "YES!"),
            ("北京大学在中国的首都北京", "北京大学在中国的首都南京"),
            ("2023年北京大学在中国的首都北京", "2023年北京大学在中国的首都南京"),
            ("one two three four five six seven eight nine", "zero one two three four five six seven eight nine"),
        ],
    )
    def test_alike(self, one, other):
        assert list(near_duplicates(["unrelated", one, other, "more of it"])) == [0, 1, 1, 3]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("yes", "no"),
            ("one two three four", "one two three four five"),
            ("the report of the committee on trade was read", "the report of the minister of the interior was read"),
        ],
    )
    def test_not_alike(self, one, other):
        assert list(near_duplicates([one, other])) == [0, 1]

    def test_a_phrase_of_very_many_texts_makes_no_pairs(self):
        texts = [f"follow us on all of our channels {n}" for n in range(COMMON + 1)]
        assert list(near_duplicates(texts)) == list(range(COMMON + 1))
        assert set(near_duplicates(texts[:COMMON])) == {0}

    @pytest.mark.parametrize("texts", [[], [""], ["a"], ["", "..."]])
    def test_hardly_any_text(self, texts):
        assert list(near_duplicates(texts)) == [0] * len(texts)

    @pytest.mark.parametrize("characters", [1, 100, 10_000])
    def test_many_texts_have_the_same_groups(self, characters, monkeypatch):
        monkeypatch.setattr(divided_shingles, "PARTS", 3)
        monkeypatch.setattr(divided_shingles, "_CHARACTERS", characters)
        monkeypatch.setattr(divided_shingles, "_REMEMBERED", 3)
        draw = random.Random(characters)
        texts = [" ".join(draw.choices("abcdefghij", k=draw.randint(0, 14))) for _ in range(60)]
        for _ in range(200):
            words = draw.choice(texts).split() or ["a"]
            words[draw.randrange(len(words))] = draw.choice("abcdefghij")
            texts.append(" ".join(words))
        texts += ["a phrase that occurs in too many texts"] * (COMMON + 1)
        groups = near_duplicates(Lazy(texts))
        assert list(groups) == list(near_duplicates(texts))
        assert 1 < len(set(groups)) < len(texts)
        for few in ([], [""], ["a"], ["", "..."]):
            assert list(near_duplicates(Lazy(few))) == [0] * len(few)

    def test_a_disk_without_room_is_told(self, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(divided_shingles._Parts, "add", full)
        with pytest.raises(DiskError, match=r"no space is left.*PEFTLAB_CACHE"):
            near_duplicates(Lazy(["a"]))
