from __future__ import annotations

import random
from collections import Counter

import pytest

from peftlab.data.cleaning.folds import folds, parts_of

WORDS = [f"w{n}" for n in range(300)]


def texts(number: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=12)) for _ in range(number)]


def test_folds_have_the_same_size_up_to_one():
    assert Counter(folds(texts(203), 5)) == {1: 41, 2: 41, 3: 41, 4: 40, 5: 40}


def test_near_duplicates_and_groups_stay_together():
    some = [version for text in texts(60) for version in (text, f"RT {text}", text)]
    of = folds(some, 4)
    assert all(len(set(of[n : n + 3])) == 1 for n in range(0, 180, 3))
    grouped = folds(some, 4, [str(n // 9) for n in range(180)])
    assert all(len(set(grouped[n : n + 9])) == 1 for n in range(0, 180, 9))
    assert {*of} == {*grouped} == {1, 2, 3, 4}


def test_a_text_that_occurs_very_often_is_in_one_fold():
    assert len(set(folds([*texts(200), *["thank you"] * 60], 5)[200:])) == 1


def test_the_order_of_the_data_decides_nothing():
    some = texts(100)
    where = dict(zip(some, folds(some, 3), strict=True))
    random.Random(1).shuffle(some)
    assert dict(zip(some, folds(some, 3), strict=True)) == where


def test_the_folds_are_fixed_for_good():
    """Other folds mean that finished runs on folds are not those that their records name."""
    assert folds(["a", "b", "c", "d", "e", "f", "g", "h"], 3) == [1, 1, 3, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "1/5/2", "-1/5", "01/5"])
def test_what_is_no_fold(fold):
    with pytest.raises(ValueError, match="expected a fold such as 2/5"):
        parts_of(fold)
