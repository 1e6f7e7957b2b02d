"""Encodes a split, through the cache: at once if its examples are in memory, else block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from peftlab.data.encoded_blocks import cached_in_blocks
from peftlab.data.encoded_cache import cached, fingerprint
from peftlab.data.views import View
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Task

BLOCK = 1000
"""Examples that are encoded at once, of a split that is not in memory."""


def encode(task: Task, examples: Sequence[Any], processor: Processor, limits: Limits) -> Encoded:
    """Return `examples` as the task encodes them, from the cache if it has them."""
    name = fingerprint(task, examples, processor, limits)
    if not isinstance(examples, View) or task.pointers is None:
        return cached(name, lambda: task.encode(examples, processor, limits))

    def blocks() -> Iterator[Encoded]:
        for start in range(0, len(examples), BLOCK):
            yield task.encode(list(examples[start : start + BLOCK]), processor, limits)

    return cached_in_blocks(name, blocks, task.pointers)
