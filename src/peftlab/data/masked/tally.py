"""Masks the texts of a file, and counts what is found in each of its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from peftlab.errors import DataError
from peftlab.personal_data.masked import Mask, Masked

MaskedFile = Callable[[Path, "Tally"], Iterator[bytes]]
"""Yields the content of a file with its texts masked, in the same format; raises DataError."""


class Tally(Protocol):
    """What a format asks to mask texts."""

    def of(self, column: str, place: str) -> Mask:
        """Return what masks texts of a column that stand at a place, such as a file and its line."""


class Counts:
    """Masks texts by `mask`, and counts."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self.found: dict[str, Counter[str]] = {}
        """How often each kind was found, by column."""

    def of(self, column: str, place: str) -> Mask:
        """Return what masks texts of a column; it raises DataError, with the place, for what is to be refused."""

        def mask(text: str) -> Masked:
            try:
                masked = self.mask(text)
            except DataError as error:
                raise DataError(f"{place}: {column}: {error}") from None
            if masked.found:
                self.found.setdefault(column, Counter()).update(masked.counts)
            return masked

        return mask


class Collected:
    """Masks nothing, and keeps every text: so that a model finds the names in all of them at once."""

    def __init__(self) -> None:
        self.texts: dict[str, None] = {}

    def of(self, column: str, place: str) -> Mask:
        """Return what keeps a text."""

        def keep(text: str) -> Masked:
            self.texts[text] = None
            return Masked(text)

        return keep
