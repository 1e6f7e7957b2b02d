"""Encodes a split, through the cache: at once if its examples are in memory, else block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from peftlab.data.encoded_blocks import cached_in_blocks
from peftlab.data.encoded_cache import cached, fingerprint
from peftlab.data.views import View
from peftlab.tasks.inputs.media_files import UnreadableFilesError
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Task

BLOCK = 1000
"""Examples that are encoded at once, of a split that is not in memory."""


def encode(task: Task, examples: Sequence[Any], processor: Processor, limits: Limits) -> Encoded:
    """Return `examples` as the task encodes them, from the cache if it has them."""
    name = fingerprint(task, examples, processor, limits)
    size = task.block or (BLOCK if isinstance(examples, View) else None)
    if size is None or task.pointers is None or not examples:
        return cached(name, lambda: task.encode(examples, processor, limits))

    def blocks() -> Iterator[Encoded]:
        unreadable: list[str] = []
        for start in range(0, len(examples), size):
            try:
                yield task.encode(list(examples[start : start + size]), processor, limits)
            except UnreadableFilesError as error:  # those of the other blocks are to be named, too
                unreadable += error.reasons
        if unreadable:
            raise UnreadableFilesError(unreadable)

    return cached_in_blocks(name, blocks, task.pointers)
