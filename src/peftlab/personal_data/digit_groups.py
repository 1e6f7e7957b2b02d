"""Groups of digits as people write long numbers: ``4111 1111 1111 1111``, ``(030) 12 34-56``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from peftlab.personal_data.kind import LETTER


class Group(NamedTuple):
    """Digits without anything between them."""

    start: int
    end: int


def chains(text: str, separators: str, most: int) -> Iterator[list[Group]]:
    """Yield the groups that stand one after another, with at most `most` characters of `separators` between two.

    A group that is part of a word, such as ``A4``, belongs to none.
    """
    chain: list[Group] = []
    gap = re.compile(f"[{re.escape(separators)}]{{1,{most}}}")
    for match in re.finditer(r"\d+", text):
        start, end = match.span()
        if chain and not gap.fullmatch(text, chain[-1].end, start):
            yield chain
            chain = []
        if not (start and _is_letter(text[start - 1])) and not (end < len(text) and _is_letter(text[end])):
            chain.append(Group(start, end))
        elif chain:
            yield chain
            chain = []
    if chain:
        yield chain


def runs(
    chain: list[Group], digits: range, groups: int, accept: Callable[[int, int], int | None]
) -> Iterator[tuple[int, int]]:
    """Yield where `accept` takes groups that follow each other, the longest that begin earliest, without overlap.

    Args:
        chain: the groups.
        digits: how many digits there may be.
        groups: how many groups there may be.
        accept: given start and end in the text, returns where it begins, which may be before the first digit; or None.
    """
    begin = 0
    while begin < len(chain):
        ends = []
        count = 0
        for end in range(begin, min(begin + groups, len(chain))):
            count += chain[end].end - chain[end].start
            if count >= digits.stop:
                break
            if count >= digits.start:
                ends.append(end)
        for end in reversed(ends):
            if (start := accept(chain[begin].start, chain[end].end)) is not None:
                yield start, chain[end].end
                begin = end
                break
        begin += 1


def in_a_row(text: str, start: int, end: int) -> bool:
    """Return whether more digits stand before or after a number, as far from it as its own are from each other."""
    before_it, after_it = text[max(0, start - 2) : start], text[end : end + 2]
    separators = [before_it[1:] * before_it[:1].isdigit(), after_it[:1] * after_it[1:].isdigit()]
    return any(separator and separator in text[start:end] for separator in separators)


_LETTER = re.compile(f"[{LETTER}_]")


def _is_letter(character: str) -> bool:
    return _LETTER.match(character) is not None
