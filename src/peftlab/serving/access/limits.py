"""How much each caller may take in a minute, counted over all processes of a server.

A token bucket in the form of the generic cell rate algorithm (ITU-T I.371): one number is kept for each caller, the
moment at which its bucket will be full again. A bucket holds one minute's worth.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MINUTE = 60.0
"""Seconds."""
FILE = "limits"
"""The name of the file in the folder that the processes share."""

_SLOT = struct.Struct("16sd")
"""The digest of a bucket's name, and the moment at which it is full again."""
_SLOTS = 1 << 16
_TRIED = 16
"""The number of slots in which a bucket may be found."""


class Limits:
    """Buckets of all callers, in memory that the processes of a server share.

    Args:
        folder: of the server; None: this process is the only one.
        clock: gives seconds; the same in all processes.
    """

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._file = -1
        if folder is not None:
            self._file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._file, _SLOTS * _SLOT.size)
        self._memory = mmap.mmap(self._file, _SLOTS * _SLOT.size)

    def take(self, bucket: str, amount: int, a_minute: int) -> float:
        """Take from a bucket, and return 0; or, if it holds too little, take nothing and return the seconds to wait.

        A full bucket gives any amount, as a debt: what is larger than a minute's worth is slowed down, not shut out.

        Args:
            bucket: its name.
            amount: how much to take.
            a_minute: how much flows in.
        """
        now = self._clock()
        with self._alone():
            place, full_at = self._find(bucket, now)
            later = max(full_at, now) + amount * MINUTE / a_minute
            wait = later - now - MINUTE
            if wait > 0 and full_at > now:
                return wait
            _SLOT.pack_into(self._memory, place, _digest(bucket), later)
            return 0.0

    def _find(self, bucket: str, now: float) -> tuple[int, float]:
        """Return where a bucket is kept, and when it is full; a new one takes the place of one that is full."""
        digest = _digest(bucket)
        start = int.from_bytes(digest[:4], "little")
        least = (float("inf"), 0)
        for place in ((start + step) % _SLOTS * _SLOT.size for step in range(_TRIED)):
            owner, full_at = _SLOT.unpack_from(self._memory, place)
            if owner == digest:
                return place, full_at
            least = min(least, (full_at, place))
        return least[1], now

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._file < 0:
            yield
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _digest(bucket: str) -> bytes:
    return hashlib.blake2b(bucket.encode(), digest_size=16).digest()
