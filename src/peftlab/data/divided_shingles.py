"""Near duplicates among more texts than fit in memory: the same pairs, by way of files that divide the work."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np

from peftlab.data.shingles import near_pairs, pairs_of, runs_of
from peftlab.sources import ANOTHER_CACHE, cache_root
from peftlab.storage.disk import writing

PARTS = 128
"""Files that the runs are divided among, and then the pairs; one of them at a time is in memory."""

_CHARACTERS = 4_000_000
"""Characters of the texts whose runs are computed at once."""
_REMEMBERED = 1_000_000
"""Words whose numbers are kept, rather than computed again."""

_RUN = np.dtype([("run", np.uint64), ("owner", np.uint32)])


class _Parts:
    """Arrays in nameless files, which are gone with the process."""

    def __init__(self, stack: ExitStack, dtype: np.dtype[Any]) -> None:
        self._files: list[BinaryIO] = []
        for _ in range(PARTS):
            file = tempfile.TemporaryFile(dir=cache_root())  # noqa: SIM115 - the stack closes it
            self._files.append(stack.enter_context(file))
        self._dtype = dtype

    def add(self, values: np.ndarray, keys: np.ndarray) -> None:
        """Append each value to the part of its key: equal keys have one part."""
        part = (keys % PARTS).astype(np.uint8)
        order = np.argsort(part, kind="stable")
        bounds = np.searchsorted(part[order], np.arange(PARTS + 1))
        values = values[order]
        for file, begin, end in zip(self._files, bounds[:-1], bounds[1:], strict=True):
            file.write(values[begin:end].tobytes())

    def __iter__(self) -> Iterator[np.ndarray]:
        for file in self._files:
            file.seek(0)
            yield np.fromfile(file, dtype=self._dtype)


def near_pairs_of_many(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the positions of every pair of near duplicates, in no particular order.

    Besides the texts that are compared at once, it holds a number for each text in memory. The files take up 12 bytes
    for each word, in the cache.

    Raises:
        DiskError: they do not fit on the disk.
    """
    cache_root().mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(writing(cache_root(), None, ANOTHER_CACHE))
        runs, sizes = _Parts(stack, _RUN), np.zeros(len(texts), dtype=np.int64)
        number = _Numbers()
        begin = 0
        for block in _blocks(texts):
            run, owner = runs_of(block, number.__getitem__)
            sizes[begin : begin + len(block)] = np.bincount(owner, minlength=len(block))
            values = np.empty(len(run), dtype=_RUN)
            values["run"], values["owner"] = run, owner + begin
            runs.add(values, run)
            begin += len(block)
        pairs = _Parts(stack, np.dtype(np.int64))
        for part in runs:
            ordered = part[np.lexsort((part["owner"], part["run"]))]
            shared = pairs_of(ordered["run"], ordered["owner"].astype(np.int64), len(texts))
            pairs.add(shared, shared)
        near = [near_pairs(part, sizes) for part in pairs]
    for one, other in near:
        yield from zip(one.tolist(), other.tolist(), strict=True)


class _Numbers(dict[str, int]):
    """The number of each word, a hash of it."""

    def __missing__(self, word: str) -> int:
        number = int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest())
        if len(self) < _REMEMBERED:
            self[word] = number
        return number


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield all texts in lists of about `_CHARACTERS` together."""
    block: list[str] = []
    characters = 0
    for text in texts:
        block.append(text)
        characters += len(text)
        if characters >= _CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block
