"""Holds out validation and test examples of a data set that has none: the same ones every time."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence

from peftlab.data.duplicates import joined, near_duplicates


def hold_out(
    texts: Sequence[str], shares: Mapping[str, float], groups: Sequence[str | None] | None = None
) -> list[str]:
    """Return the split of each text: one of `shares`, or ``train``.

    A split gets its share of the data, up to chance. The sha256 of the text decides, independent of the order of the
    data and the seed of a run. Near duplicates and, with `groups`, texts of one group stay together, and their smallest
    digest decides: a model must not be scored on documents or authors that it was trained on.
    """
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    together = kept_together(texts, groups)
    least: dict[int, bytes] = {}
    for member, digest in zip(together, digests, strict=True):
        least[member] = min(digest, least.get(member, digest))
    # hashed again: the minimum of several digests is not uniform
    drawn = {member: _in_unit_interval(hashlib.sha256(digest).digest()) for member, digest in least.items()}
    return [_split_at(drawn[member], shares) for member in together]


def kept_together(texts: Sequence[str], groups: Sequence[str | None] | None = None) -> list[int]:
    """Return for each text the position of the first one that it must not be separated from.

    Near duplicates belong together and, with `groups`, all texts of a group.
    """
    together = near_duplicates(texts)
    if groups is None:
        return together
    first: dict[str | None, int] = {}
    of_group = ((first.setdefault(group, n), n) for n, group in enumerate(groups))
    return joined(len(texts), itertools.chain(enumerate(together), of_group))


def _in_unit_interval(digest: bytes) -> float:
    return int.from_bytes(digest[:6], "big") / 2**48


def _split_at(place: float, shares: Mapping[str, float]) -> str:
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"
