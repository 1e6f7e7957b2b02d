"""Hashes of texts, eight bytes each, in place of the texts where there are many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def hashes(texts: Iterable[str]) -> np.ndarray:
    """Return a 64-bit BLAKE2b hash of each text, shape (texts,).

    Two of n different texts have the same hash with a probability of about n^2 / 2^65: one in 10^7 for a million.
    """
    return np.fromiter(map(_hash, texts), dtype=np.uint64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())


def among(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return whether each of `some` hashes is among `others`, shape of `some`; sorts `others` in place."""
    others.sort()
    begin, end = (np.searchsorted(others, some, side) for side in ("left", "right"))
    return np.asarray(begin < end)
