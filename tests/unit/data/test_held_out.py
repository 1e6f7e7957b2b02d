from __future__ import annotations

import random
from collections import Counter

from peftlab.data.held_out import hold_out

WORDS = [f"w{n}" for n in range(500)]


def texts(number: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=12)) for _ in range(number)]


def test_shares_are_met_up_to_chance():
    counts = Counter(hold_out(texts(4000), {"validation": 0.1, "test": 0.25}))
    assert counts.keys() == {"train", "validation", "test"}
    assert abs(counts["validation"] - 400) < 80  # four standard deviations
    assert abs(counts["test"] - 1000) < 110


def test_a_text_is_where_it_is_whatever_is_around_it():
    some = texts(300)
    where = dict(zip(some, hold_out(some, {"test": 0.3}), strict=True))
    more = some[100:] + texts(500, seed=1)
    random.Random(2).shuffle(more)
    again = dict(zip(more, hold_out(more, {"test": 0.3}), strict=True))
    assert all(again[text] == where[text] for text in some[100:])


def test_the_split_is_fixed_for_good():
    """Another answer means that every recorded score on held-out data is void."""
    found = hold_out(["a", "b", "c", "d", "e", "f", "g", "h"], {"validation": 0.3, "test": 0.3})
    assert found == ["train", "validation", "test", "train", "test", "test", "train", "validation"]


def test_near_duplicates_stay_together():
    draw = random.Random(3)
    groups = [[text, f"{text} {draw.choice(WORDS)}", f"RT {text}"] for text in texts(200)]
    where = hold_out([text for group in groups for text in group], {"validation": 0.3, "test": 0.3})
    of_groups = [set(where[3 * n : 3 * n + 3]) for n in range(200)]
    assert all(len(splits) == 1 for splits in of_groups)
    # in proportion, although the least digest of three is smaller than that of one
    counts = Counter(next(iter(splits)) for splits in of_groups)
    assert 35 <= counts["validation"] <= 85
    assert 35 <= counts["test"] <= 85


def test_groups_stay_together_and_with_the_near_duplicates_of_their_texts():
    some = texts(400)
    groups = [f"doc {n // 4}" for n in range(400)]
    where = hold_out(some, {"validation": 0.2, "test": 0.2}, groups)
    assert all(len(set(where[n : n + 4])) == 1 for n in range(0, 400, 4))
    assert {"train", "validation", "test"} == set(where)
    some[399] = some[0]  # a text of the last group is one of the first
    where = hold_out(some, {"validation": 0.2, "test": 0.2}, groups)
    assert len({*where[:4], *where[396:]}) == 1


def test_groups_of_one_change_nothing():
    some = texts(300)
    assert hold_out(some, {"test": 0.3}, [str(n) for n in range(300)]) == hold_out(some, {"test": 0.3})
