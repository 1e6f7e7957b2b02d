"""Validation and test examples held out of a data set that comes without them: the same ones every time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from peftlab.data.duplicates import near_duplicates


def hold_out(texts: Sequence[str], shares: Mapping[str, float]) -> list[str]:
    """Return the split of each text: one of `shares`, or ``train``.

    A split gets the share of the data that it asks for, up to chance. What decides is the sha256 of the text, whatever
    the order of the data and the seed of a run; of near duplicates, which fall into one split, the least digest.
    """
    digests = [hashlib.sha256(text.encode(errors="surrogatepass")).digest() for text in texts]
    groups = near_duplicates(texts)
    least: dict[int, bytes] = {}
    for group, digest in zip(groups, digests, strict=True):
        least[group] = min(digest, least.get(group, digest))
    # hashed once more: the least of several digests is small
    drawn = {group: _in_unit_interval(hashlib.sha256(digest).digest()) for group, digest in least.items()}
    return [_split_at(drawn[group], shares) for group in groups]


def _in_unit_interval(digest: bytes) -> float:
    return int.from_bytes(digest[:6], "big") / 2**48


def _split_at(place: float, shares: Mapping[str, float]) -> str:
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"
