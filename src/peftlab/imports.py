"""The import of large packages, torch and what stands on it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Around imports: collect no garbage meanwhile, and leave what they made out of every later collection.

    The imports of a run make about a million objects, all of which stay. Looking for garbage among them takes a
    fifth of the time of the imports, and another second when the process ends. For the entry points of processes: in
    one that is the user's own, their objects would be left out as well.
    """
    imported = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > imported:  # else all of it was there already, and left out
            gc.freeze()
        gc.enable()
