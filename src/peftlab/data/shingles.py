"""Runs of words in texts, and the texts that have many of them in common (the w-shingling of Broder 1997)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np

from peftlab.reading.words import WORD

RUN = 5
"""Length, in words, of the runs by which texts are compared."""

ALIKE = 0.5
"""The share of common runs (Jaccard index) from which two texts are near duplicates."""

COMMON = 50
"""A run that occurs in more texts than this is a common phrase and is ignored: otherwise every two of these texts would
become a candidate pair."""

_WORD = re.compile(WORD)
_LINK = re.compile(r"https?://\S*")


def words_of(text: str) -> list[str]:
    """Return the words of a text, ignoring letter case, punctuation and links; a Chinese character is a word."""
    words: list[str] = _WORD.findall(_LINK.sub(" ", text.casefold()))
    return words


def runs_of(texts: Iterable[str], number: Callable[[str], int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash for every distinct run of words in every text, and the position of that text, sorted by both.

    Args:
        texts: the texts; one of fewer than `RUN` words is one run.
        number: returns the number of a word, from 1, another one for every word.
    """
    words: list[int] = []
    ends: list[int] = []
    for text in texts:
        own = list(map(number, words_of(text)))
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


def pairs_of(run: np.ndarray, owner: np.ndarray, texts: int) -> np.ndarray:
    """Return the pairs of texts that have a run in common, as often as they have one.

    Args:
        run: the hashes of runs, sorted, shape (runs,).
        owner: the position of the text of each, sorted for each hash, shape (runs,).
        texts: the number of texts.

    Returns:
        ``one * texts + other`` for each pair of positions, one < other.
    """
    starts = np.flatnonzero(np.r_[True, run[1:] != run[:-1]]) if len(run) else np.zeros(0, dtype=np.int64)
    owners = np.diff(np.r_[starts, len(run)])
    pairs = [np.zeros(0, dtype=np.int64)]
    for number in range(2, COMMON + 1):
        members = owner[starts[owners == number][:, None] + np.arange(number)]
        one, other = np.triu_indices(number, 1)
        pairs.append((members[:, one] * texts + members[:, other]).ravel())
    return np.concatenate(pairs)


def near_pairs(pairs: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two positions of each pair of near duplicates.

    Args:
        pairs: all common runs of these pairs, see `pairs_of`.
        sizes: the number of distinct runs of each text, shape (texts,).
    """
    pair, shared = np.unique(pairs, return_counts=True)
    one, other = pair // max(1, len(sizes)), pair % max(1, len(sizes))
    alike = shared >= ALIKE * (sizes[one] + sizes[other] - shared)
    return one[alike], other[alike]
