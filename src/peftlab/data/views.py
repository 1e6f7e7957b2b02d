"""Examples chosen from others, or made from them, one at a time: a large split is never in memory as a whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, overload

import numpy as np

T = TypeVar("T")


class View(Sequence[T]):
    """A sequence whose members are made when they are accessed; a slice of it is one, too."""

    @abstractmethod
    def at(self, place: int) -> T:
        """Return the member at `place`, from 0."""

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        """Return a member, or a view of several; raises IndexError where there is none."""
        if isinstance(place, slice):
            return _Chosen(self, np.arange(*place.indices(len(self))))
        return self.at(range(len(self))[place])

    def __iter__(self) -> Iterator[T]:
        """Yield the members in order."""
        return map(self.at, range(len(self)))


class _Mapped(View[T]):
    def __init__(self, members: Sequence[Any], change: Callable[[Any], T]) -> None:
        self._members, self._change = members, change

    def __len__(self) -> int:
        return len(self._members)

    def at(self, place: int) -> T:
        return self._change(self._members[place])


class _Chosen(View[T]):
    def __init__(self, members: Sequence[T], places: np.ndarray) -> None:
        self._members, self._places = members, places

    def __len__(self) -> int:
        return len(self._places)

    def at(self, place: int) -> T:
        return self._members[int(self._places[place])]


class _Renamed(_Chosen[Any]):
    def __init__(self, members: Sequence[Any], places: np.ndarray, split: str) -> None:
        super().__init__(members, places)
        self._split = split

    def at(self, place: int) -> Any:
        return replace(super().at(place), id=f"{self._split}:{int(self._places[place])}")


class _Joined(View[T]):
    def __init__(self, first: Sequence[T], second: Sequence[T]) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def at(self, place: int) -> T:
        return self._first[place] if place < len(self._first) else self._second[place - len(self._first)]


def mapped(members: Sequence[Any], change: Callable[[Any], T]) -> Sequence[T]:
    """Return the results of `change`: a view of the members of a view, else a list."""
    return _Mapped(members, change) if isinstance(members, View) else [change(member) for member in members]


def chosen(members: Sequence[T], places: Sequence[int] | np.ndarray) -> Sequence[T]:
    """Return the members at `places`: a view of a view, else a list."""
    return _Chosen(members, _array(places)) if isinstance(members, View) else [members[n] for n in places]


def renamed(members: Sequence[Any], places: Sequence[int] | np.ndarray, split: str) -> Sequence[Any]:
    """Return the members at `places`, as `chosen` does, with the ids ``split:PLACE``."""
    if isinstance(members, View):
        return _Renamed(members, _array(places), split)
    return [replace(members[n], id=f"{split}:{n}") for n in places]


def joined(first: Sequence[T], second: Sequence[T]) -> Sequence[T]:
    """Return the members of both in order: a view if the first is one, else a list."""
    return _Joined(first, second) if isinstance(first, View) else [*first, *second]


def _array(places: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.asarray(places, dtype=np.int64)
