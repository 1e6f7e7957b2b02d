"""Exact and near duplicates among texts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

RUN = 5
"""Length, in words, of the runs by which texts are compared."""

ALIKE = 0.5
"""The share of common runs (Jaccard index) from which two texts are near duplicates."""

COMMON = 50
"""A run that occurs in more texts than this is a common phrase and is ignored: otherwise every two of these texts would
become a candidate pair."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")
_LINK = re.compile(r"https?://\S*")


def repeated(texts: Sequence[Hashable], gold: Sequence[object]) -> tuple[list[int], list[int]]:
    """Return the positions of the texts to drop so that each remains once.

    Returns:
        repetitions of an earlier text with the same gold; and all occurrences of texts with different gold, since
        nobody knows which is right.
    """
    first: dict[Hashable, int] = {}
    again: dict[Hashable, list[int]] = {}
    for n, text in enumerate(texts):
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


def near_duplicates(texts: Sequence[str]) -> list[int]:
    """Return for each text the position of the first text in its group of near duplicates, its own if it has none.

    Two texts are near duplicates if at least `ALIKE` of the runs of `RUN` words in either are in both (the w-shingling
    of Broder 1997), ignoring letter case, punctuation and links; a shorter text is one run. Groups are transitive: a
    near duplicate of any member belongs to the group. A Chinese character is a word.
    """
    run, owner = _runs(texts)
    sizes = np.bincount(owner, minlength=len(texts))
    starts = np.flatnonzero(np.r_[True, run[1:] != run[:-1]]) if len(run) else np.zeros(0, dtype=np.int64)
    owners = np.diff(np.r_[starts, len(run)])
    pairs = [np.zeros(0, dtype=np.int64)]
    for number in range(2, COMMON + 1):
        members = owner[starts[owners == number][:, None] + np.arange(number)]
        one, other = np.triu_indices(number, 1)
        pairs.append((members[:, one] * len(texts) + members[:, other]).ravel())
    pair, shared = np.unique(np.concatenate(pairs), return_counts=True)
    one, other = pair // max(1, len(texts)), pair % max(1, len(texts))
    alike = shared >= ALIKE * (sizes[one] + sizes[other] - shared)
    return joined(len(texts), zip(one[alike].tolist(), other[alike].tolist(), strict=True))


def same_words(texts: Sequence[str]) -> list[int]:
    """Return for each text the position of the first one with the same words, ignoring what near duplicates ignore.

    A text without a word is only the same as an equal one.
    """
    first: dict[str, int] = {}
    return [first.setdefault(" ".join(_words(text)) or f"\0{text}", n) for n, text in enumerate(texts)]


def alike(texts: Sequence[str]) -> list[int]:
    """Return the same as `near_duplicates`, but for two kinds of text that it does not compare.

    Texts with the same words are one group even if there are more than `COMMON` of them, and a text without a word,
    such as a smiley, is alike only to an equal one: `near_duplicates` puts all of these together. It divides data sets
    for good, so that it stays as it is.
    """
    worded = [n for n, text in enumerate(texts) if _words(text)]
    near = near_duplicates([texts[n] for n in worded])
    pairs = ((worded[other], n) for n, other in zip(worded, near, strict=True))
    return joined(len(texts), itertools.chain(pairs, enumerate(same_words(texts))))


def _words(text: str) -> list[str]:
    words: list[str] = _WORD.findall(_LINK.sub(" ", text.casefold()))
    return words


def _runs(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash for every distinct run of words in every text, and the position of that text, sorted by both."""
    vocabulary: dict[str, int] = {}
    words: list[int] = []
    ends: list[int] = []
    for text in texts:
        own = [vocabulary.setdefault(w, len(vocabulary) + 1) for w in _words(text)]
        words += own + [0] * (RUN - len(own))
        ends.append(len(words))
    numbers = np.asarray(words, dtype=np.uint64)
    run = np.zeros(max(0, len(numbers) - RUN + 1), dtype=np.uint64)
    for place in range(RUN):  # a polynomial of the words' numbers, modulo 2**64
        run = run * np.uint64(0x9E3779B97F4A7C15) + numbers[place : place + len(run)] + np.uint64(1)
    end = np.asarray(ends, dtype=np.int64)
    owner = np.searchsorted(end, np.arange(len(run)), side="right")
    inside = np.arange(len(run)) + RUN <= end[owner]
    run, owner = run[inside], owner[inside]
    order = np.lexsort((owner, run))
    run, owner = run[order], owner[order]
    new = np.r_[True, (run[1:] != run[:-1]) | (owner[1:] != owner[:-1])] if len(run) else np.zeros(0, dtype=bool)
    return run[new], owner[new]


def joined(number: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of `number` members the first of its group, where `pairs` share a group (union-find)."""
    above = list(range(number))

    def first(n: int) -> int:
        while above[n] != n:
            above[n] = above[above[n]]
            n = above[n]
        return n

    for one, other in pairs:
        a, b = first(one), first(other)
        above[max(a, b)] = min(a, b)
    return [first(n) for n in range(number)]
