"""Holds out validation and test examples of a data set that has none: the same ones every time."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from peftlab.data.duplicates import joined, near_duplicates


def hold_out(
    texts: Sequence[str], shares: Mapping[str, float], groups: Sequence[str | None] | None = None
) -> list[str]:
    """Return the split of each text: one of `shares`, or ``train``.

    A split gets its share of the data, up to chance. The sha256 of the text decides, independent of the order of the
    data and the seed of a run. Near duplicates and, with `groups`, texts of one group stay together, and their smallest
    digest decides: a model must not be scored on documents or authors that it was trained on.
    """
    together = kept_together(texts, groups)
    sizes = np.bincount(together, minlength=len(texts))
    least: dict[int, bytes] = {}  # of groups of several; that of a single text need not be remembered
    for member, text in zip(together, texts, strict=True):
        if sizes[member] > 1:
            digest = _digest(text)
            least[member] = min(digest, least.get(member, digest))
    split_of = {member: _drawn(digest, shares) for member, digest in least.items()}
    return [
        split_of[member] if sizes[member] > 1 else _drawn(_digest(text), shares)
        for member, text in zip(together, texts, strict=True)
    ]


def kept_together(texts: Sequence[str], groups: Sequence[str | None] | None = None) -> Sequence[int]:
    """Return for each text the position of the first one that it must not be separated from.

    Near duplicates belong together and, with `groups`, all texts of a group.
    """
    together = near_duplicates(texts)
    if groups is None:
        return together
    first: dict[str | None, int] = {}
    of_group = ((first.setdefault(group, n), n) for n, group in enumerate(groups))
    return joined(len(texts), itertools.chain(enumerate(together), of_group))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _drawn(digest: bytes, shares: Mapping[str, float]) -> str:
    """Return the split of a group by its least digest, hashed again: the minimum of several digests is not uniform."""
    place = int.from_bytes(hashlib.sha256(digest).digest()[:6], "big") / 2**48
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"
