"""Collate the next batches in a thread, while a GPU computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

T = TypeVar("T")


class Ahead(DataLoader[T]):
    """A loader without worker processes, of which a thread of this process collates the next batches.

    Their order, and all that is in them, is that of the loader itself. The thread begins with the first batch, so that
    the sampler knows its epoch by then. With ``pin_memory``, batches lie in page-locked memory, from which a GPU copies
    while the host goes on.

    Args:
        batches: the most batches that are ready before they are asked for.
        options: those of `DataLoader`.
    """

    def __init__(self, *args: Any, batches: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.batches = batches

    def __iter__(self) -> Any:
        """Return an iterator over the batches of one epoch."""
        return prepared(super().__iter__(), self.batches)


def prepared(items: Iterator[T], most: int) -> Iterator[T]:
    """Yield `items`, of which a thread gets up to `most` before they are asked for; their errors come in their turn."""
    device = torch.cuda.current_device() if torch.cuda.is_available() else None
    pool = ThreadPoolExecutor(1, "collating", _use, (device,))
    end = object()
    waiting: deque[Future[Any]] = deque(pool.submit(next, items, end) for _ in range(most + 1))
    try:
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


def _use(device: int | None) -> None:
    """Use a GPU, which each thread chooses for itself."""
    if device is not None:
        torch.cuda.set_device(device)
