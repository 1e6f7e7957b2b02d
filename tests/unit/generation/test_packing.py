"""Examples laid into rows."""

from __future__ import annotations

import random

from peftlab.generation.packing import best_fit, packed


def test_each_example_stands_in_one_row_that_holds_it():
    draw = random.Random(0)
    for _ in range(200):
        lengths = [draw.randint(1, 40) for _ in range(draw.randint(1, 30))]
        for room in (max(lengths), 64, 1000):
            rows = packed(lengths, room)
            assert sorted(example for row in rows for example in row) == list(range(len(lengths)))
            assert max(sum(lengths[i] for i in row) for row in rows) <= max(room, *lengths)


def test_the_best_fit_leaves_least_room():
    assert best_fit([7, 5, 4, 3, 1], 10) == [[0, 3], [1, 2, 4]]
    assert best_fit([3, 3, 3], 3) == [[0], [1], [2]]
    assert best_fit([12, 2], 10) == [[0], [1]]  # a longer example has a row of its own


def test_rows_are_no_longer_than_padding_asks_for():
    assert packed([10] * 8, 1000) == [[i] for i in range(8)]  # no padding as it is
    assert packed([9, 5, 4], 9) == [[0], [1, 2]]
    lengths = [300, 200, 200]
    assert packed(lengths, 300) == [[0], [1], [2]]
    assert packed(lengths, 1000) == [[0, 1, 2]]
