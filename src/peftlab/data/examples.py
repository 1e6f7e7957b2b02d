"""Examples as a format has read them, with what it has counted on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class Examples(list[T]):
    """The examples of a file; `counts` says what is odd about it, for the record."""

    def __init__(self, examples: Iterable[T], counts: Mapping[str, int]) -> None:
        super().__init__(examples)
        self.counts = {name: count for name, count in counts.items() if count}
