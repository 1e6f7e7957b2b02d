"""Examples read by a format, with counts of oddities in the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class Examples(list[T]):
    """The examples of a file; `counts` has its oddities, for the run record."""

    def __init__(self, examples: Iterable[T], counts: Mapping[str, int]) -> None:
        super().__init__(examples)
        self.counts = {name: count for name, count in counts.items() if count}
