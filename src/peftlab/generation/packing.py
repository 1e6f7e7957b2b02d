"""Several examples in one row of tokens, so that nothing is spent on padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

_WASTE = 1 / 16
"""The share of padding that is not worth longer rows, whose attention is over more tokens."""


def packed(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Return the examples of each row, by their positions, in rows as short as leave little padding.

    Rows are as long as the longest example, or twice, four times, ... as long, up to `room`: the first length whose
    padding is below a sixteenth, else the one with the least.

    Args:
        lengths: the tokens of each example.
        room: the most tokens of a row; a longer example has one of its own.
    """
    longest, total = max(lengths), sum(lengths)
    best: list[list[int]] = []
    least = 0
    size = longest
    while True:
        rows = best_fit(lengths, size)
        positions = len(rows) * max(sum(lengths[i] for i in row) for row in rows)
        if not best or positions < least:
            best, least = rows, positions
        if size >= room or len(rows) == 1 or positions - total <= _WASTE * positions:
            return best
        size = min(2 * size, room)


def best_fit(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Return the examples of each row of `size` tokens, by best-fit decreasing: each goes, longest first, where the
    least room remains (Johnson 1973). A function of the lengths alone.
    """
    rows: list[list[int]] = []
    left: list[tuple[int, int]] = []
    """The room left in each row, and its number, ascending."""
    for example in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = bisect_left(left, (lengths[example], -1))
        if place < len(left):
            room, row = left.pop(place)
        else:
            room, row = size, len(rows)
            rows.append([])
        rows[row].append(example)
        insort(left, (max(room - lengths[example], 0), row))
    return rows
