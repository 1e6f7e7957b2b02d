"""Exact and near duplicates among texts."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from peftlab.data.divided_shingles import near_pairs_of_many
from peftlab.data.hashes import among, hashes
from peftlab.data.shingles import near_pairs, pairs_of, runs_of, words_of
from peftlab.data.views import View


def repeated(texts: Sequence[Hashable], gold: Sequence[object]) -> tuple[list[int], list[int]]:
    """Return the positions of the texts to drop so that each remains once.

    Returns:
        repetitions of an earlier text with the same gold; and all occurrences of texts with different gold, since
        nobody knows which is right.
    """
    first: dict[Hashable, int] = {}
    again: dict[Hashable, list[int]] = {}
    for n in _suspects(texts) if isinstance(texts, View) else range(len(texts)):
        text = texts[n]
        if first.setdefault(text, n) != n:
            again.setdefault(text, []).append(n)
    duplicates: list[int] = []
    conflicts: list[int] = []
    for text, others in again.items():
        same = all(gold[n] == gold[first[text]] for n in others)
        if same:
            duplicates += others
        else:
            conflicts += [first[text], *others]
    return sorted(duplicates), sorted(conflicts)


def _suspects(texts: Iterable[str]) -> list[int]:
    """Return the positions of the texts whose hash occurs more than once: all others occur once."""
    of_each = hashes(texts)
    ordered = np.sort(of_each)
    several = ordered[1:][ordered[1:] == ordered[:-1]]
    places: list[int] = np.flatnonzero(among(of_each, several)).tolist()
    return places


def near_duplicates(texts: Sequence[str]) -> Sequence[int]:
    """Return for each text the position of the first text in its group of near duplicates, its own if it has none.

    Two texts are near duplicates if at least `ALIKE` of the runs of `RUN` words in either are in both (the w-shingling
    of Broder 1997), ignoring letter case, punctuation and links; a shorter text is one run. Groups are transitive: a
    near duplicate of any member belongs to the group. A Chinese character is a word.
    """
    if isinstance(texts, View):
        return joined(len(texts), near_pairs_of_many(texts))
    numbers: dict[str, int] = {}
    run, owner = runs_of(texts, lambda word: numbers.setdefault(word, len(numbers) + 1))
    sizes = np.bincount(owner, minlength=len(texts))
    one, other = near_pairs(pairs_of(run, owner, len(texts)), sizes)
    return joined(len(texts), zip(one.tolist(), other.tolist(), strict=True))


def same_words(texts: Sequence[str]) -> list[int]:
    """Return for each text the position of the first one with the same words, ignoring what near duplicates ignore.

    A text without a word is only the same as an equal one.
    """
    first: dict[str, int] = {}
    return [first.setdefault(" ".join(words_of(text)) or f"\0{text}", n) for n, text in enumerate(texts)]


def alike(texts: Sequence[str]) -> Sequence[int]:
    """Return the same as `near_duplicates`, but for two kinds of text that it does not compare.

    Texts with the same words are one group even if there are more than `COMMON` of them, and a text without a word,
    such as a smiley, is alike only to an equal one: `near_duplicates` puts all of these together. It divides data sets
    for good, so that it stays as it is.
    """
    worded = [n for n, text in enumerate(texts) if words_of(text)]
    near = near_duplicates([texts[n] for n in worded])
    pairs = ((worded[other], n) for n, other in zip(worded, near, strict=True))
    return joined(len(texts), itertools.chain(pairs, enumerate(same_words(texts))))


def joined(number: int, pairs: Iterable[tuple[int, int]]) -> Sequence[int]:
    """Return for each of `number` members the first of its group, where `pairs` share a group (union-find)."""
    above = array("q", range(number))

    def first(n: int) -> int:
        while above[n] != n:
            above[n] = above[above[n]]
            n = above[n]
        return n

    for one, other in pairs:
        a, b = first(one), first(other)
        above[max(a, b)] = min(a, b)
    for n in range(number):  # the members of a group come after its first one
        above[n] = first(n)
    return above
