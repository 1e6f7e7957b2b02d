"""A masked text: what was found in it, and where the rest has moved to."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Found(NamedTuple):
    """Personal data in a text; what it says is kept nowhere."""

    kind: str
    """Such as ``email``."""
    start: int
    """The first character in the text as it was, from 0."""
    end: int
    """The one after its last."""


@dataclass(frozen=True, slots=True)
class Masked:
    """A text with something else in place of personal data."""

    text: str
    found: tuple[Found, ...] = ()
    """Disjoint, in order."""
    places: tuple[tuple[int, int], ...] = ()
    """The slice of `text` that stands in place of each of `found`."""

    @property
    def counts(self) -> Counter[str]:
        """How often each kind was found."""
        return Counter(one.kind for one in self.found)

    def moved(self, start: int, end: int) -> tuple[int, int]:
        """Return the slice of `text` that a slice of the text as it was has become.

        A slice that begins or ends within personal data takes in all that stands in its place.
        """
        return self._moved(start, last=False), self._moved(end, last=True)

    def _moved(self, place: int, last: bool) -> int:
        shift = 0
        for one, (start, end) in zip(self.found, self.places, strict=True):
            if place >= one.end:
                shift = end - one.end
            elif place > one.start:
                return end if last else start
        return place + shift


Mask = Callable[[str], Masked]
"""Masks one text."""


def masked_words(mask: Mask, words: Sequence[str]) -> list[str]:
    """Return as many words as there are, those of personal data masked; it may go over several of them.

    Each word that belongs to it becomes the tag, or its own part of the surrogate; what else is in the word stays.
    """
    masked = mask(" ".join(words))
    ends = list(itertools.accumulate(len(word) + 1 for word in words))
    starts = [0, *ends[:-1]]
    result = list(words)
    for one, (begin, end) in reversed(list(zip(masked.found, masked.places, strict=True))):
        touched = range(bisect_right(starts, one.start) - 1, bisect_left(starts, one.end))
        for n, new in zip(touched, _parts(masked.text[begin:end], len(touched)), strict=True):
            first, last = max(one.start - starts[n], 0), min(one.end - starts[n], len(words[n]))
            result[n] = result[n][:first] + new + result[n][last:]
    return result


def _parts(new: str, count: int) -> list[str]:
    """Return what stands in place of personal data as one part for each of `count` words."""
    parts = new.split(" ")
    if len(parts) > count:
        return [*parts[: count - 1], "".join(parts[count - 1 :])]
    return parts + parts[-1:] * (count - len(parts))
