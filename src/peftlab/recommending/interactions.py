"""Items, and what users did with them: the examples of the tasks that recommend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from peftlab.errors import DataError
from peftlab.reading.placed import Placed

LARGEST = 1e30
"""The largest number that is read of an item or a user: what learns from them computes in fp32."""


@dataclass(frozen=True)
class Catalogue:
    """All items that may be recommended, in the order of their file."""

    items: tuple[str, ...]
    """Their ids."""
    titles: tuple[str, ...]
    """How a history names them."""
    texts: tuple[str, ...]
    """What is read of them: title and further columns."""
    numbers: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """Their numeric columns, shape (items, columns)."""
    cold: frozenset[int] = frozenset()
    """The places of items that are kept out of training, or new after it."""

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each item by its id."""
        return {item: place for place, item in enumerate(self.items)}


@dataclass(frozen=True, slots=True)
class Interaction(Placed):
    """What a user did with an item, after all that the same user did before."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    user: str
    item: int | None
    """The place of the item in the catalogue; None at prediction of what comes next."""
    catalogue: Catalogue
    sequence: tuple[int, ...] = ()
    """The places of the user's items, oldest first, shared by all examples of the user."""
    before: int = 0
    """How many of `sequence` come before this one."""
    query: str | None = None
    """What the user has asked for, where the data says; it then stands for the history."""
    label: bool | None = None
    """Whether the user liked the item, where the data says."""
    numbers: tuple[float, ...] = ()
    """The numeric columns of user and interaction."""
    file: str = ""
    line: int | None = None

    @property
    def history(self) -> tuple[int, ...]:
        """The places of the user's items before this one, oldest first."""
        return self.sequence[: self.before]

    @property
    def group(self) -> str:
        """The user, over whom uncertainty is."""
        return self.user

    @property
    def is_cold(self) -> bool:
        """Whether the item was kept out of training, or is new after it."""
        return self.item in self.catalogue.cold

    @property
    def seen(self) -> frozenset[int]:
        """The places of items that are not recommended again: those of the history, but for the item itself."""
        return frozenset(self.history) - {self.item}

    def last(self, recent: int) -> tuple[int, ...]:
        """Return the places of the last `recent` items of the history, oldest first."""
        return self.sequence[max(0, self.before - recent) : self.before]

    def text(self, recent: int) -> str:
        """Return the query, or the titles of the last `recent` items, the newest first."""
        if self.query is not None:
            return self.query
        return "; ".join(self.catalogue.titles[place] for place in reversed(self.last(recent)))

    def masked(self, mask: Any) -> NoReturn:
        """Refuse: texts of items stand in every example.

        Raises:
            DataError: always.
        """
        raise DataError(
            "data.mask_pii: interactions are not masked as they are read; use `peftlab mask` on their files"
        )
