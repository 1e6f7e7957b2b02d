"""Columns beside a text as numbers: standardised numbers, one column for each category, and what is missing. No torch.

All that is learnt of a column, such as its mean, is learnt from the training rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from peftlab.errors import DataError, did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
"""How cells without a value are written, in lower case."""

ABSENT = "(missing)"
"""The category of rows without a value, where the training rows have such."""

RARE = 2
"""A category of fewer training rows is one of the others: a single row says nothing of it."""

Row = Mapping[str, Any]


class Feature(NamedTuple):
    """A column, and its places in the matrix: from `start` to before `stop`."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Number:
    """A column of numbers."""

    name: str
    mean: float
    scale: float
    """The standard deviation; 1 where all training rows have one value."""
    may_miss: bool
    """Whether training rows lack it: a flag then stands behind the number."""

    @property
    def width(self) -> int:
        """How many columns of the matrix it takes."""
        return 1 + self.may_miss

    def encoded(self, values: Sequence[Any], places: Sequence[str], keep_missing: bool) -> np.ndarray:
        """Return the standardised values, shape (rows, width); raises DataError."""
        numbers = np.array([self._number(*each) for each in zip(values, places, strict=True)], np.float64)
        missing = np.isnan(numbers)
        standard = (numbers - self.mean) / self.scale
        if not keep_missing:
            standard[missing] = 0.0
        return np.stack([standard, missing.astype(np.float64)][: self.width], axis=1)

    def _number(self, value: Any, place: str) -> float:
        try:
            number = number_of(value)
        except (ValueError, TypeError):
            raise DataError(
                f"{place}: '{self.name}' is {str(value)[:80]!r}; expected a number, as in the training rows. Mend it, "
                "leave it empty, or name the column among the categorical ones"
            ) from None
        return math.nan if number is None else number


@dataclass(frozen=True)
class Category:
    """A column of names: each frequent one has a column of the matrix, and all others together the last."""

    name: str
    values: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many columns of the matrix it takes."""
        return len(self.values) + 1

    def encoded(self, values: Sequence[Any], places: Sequence[str], keep_missing: bool) -> np.ndarray:
        """Return a one in the column of each value, shape (rows, width)."""
        number = {value: place for place, value in enumerate(self.values)}
        columns = [number.get(category_of(value), len(self.values)) for value in values]
        return np.eye(self.width)[columns]


@dataclass(frozen=True)
class Columns:
    """The columns that a model reads, and what was learnt of them."""

    parts: tuple[Number | Category, ...]

    @classmethod
    def learnt(
        cls,
        rows: Sequence[Row],
        numeric: Sequence[str],
        categorical: Sequence[str],
        places: Sequence[str] | None = None,
    ) -> Columns:
        """Learn the columns from the training rows, those of numbers first.

        Args:
            rows: the values by column, as a table has them.
            numeric: the columns of numbers.
            categorical: the columns of names.
            places: where each row stands, for messages.

        Raises:
            DataError: a column is missing, or has no value, or something else than numbers.
        """
        named = _places(rows, places)
        parts: list[Number | Category] = []
        for name in numeric:
            plain = Number(name, 0.0, 1.0, False).encoded(_values(rows, name, named), named, True)[:, 0]
            known = plain[~np.isnan(plain)]
            if not len(known):
                raise DataError(f"column '{name}': has no value in the {len(rows)} training rows. Leave it out")
            one = known[0] if known.min() == known.max() else None  # whose mean and deviation rounding would spoil
            mean, scale = (known.mean(), known.std()) if one is None else (one, 1.0)
            parts.append(Number(name, float(mean), float(scale), len(known) < len(plain)))
        for name in categorical:
            counts = Counter(map(category_of, _values(rows, name, named)))
            parts.append(Category(name, tuple(sorted(value for value, count in counts.items() if count >= RARE))))
        return cls(tuple(parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(part.name for part in self.parts)

    @property
    def width(self) -> int:
        """The width of the matrix."""
        return sum(part.width for part in self.parts)

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """Where each column stands in the matrix."""
        ends = np.cumsum([part.width for part in self.parts]).tolist()
        return tuple(Feature(part.name, end - part.width, end) for part, end in zip(self.parts, ends, strict=True))

    def matrix(
        self, rows: Sequence[Row], places: Sequence[str] | None = None, keep_missing: bool = False
    ) -> np.ndarray:
        """Return the rows as numbers, shape (rows, width).

        A missing number is 0, the mean of the training rows, with its flag beside it; a category that is rare or
        unknown in the training rows has a one in the last column of its own.

        Args:
            rows: the values by column.
            places: where each row stands, for messages.
            keep_missing: whether missing numbers are NaN, for models that take them.

        Raises:
            DataError: a column is missing, or a number is none.
        """
        named = _places(rows, places)
        made = [part.encoded(_values(rows, part.name, named), named, keep_missing) for part in self.parts]
        return np.concatenate(made, axis=1) if made else np.zeros((len(rows), 0))

    def unknown(self, rows: Sequence[Row]) -> dict[str, int]:
        """Return how many rows have a category that is rare or unknown in the training rows, by column."""
        counts = {
            part.name: sum(category_of(row[part.name]) not in part.values for row in rows)
            for part in self.parts
            if isinstance(part, Category)
        }
        return {name: count for name, count in counts.items() if count}

    def as_json(self) -> list[dict[str, Any]]:
        """Return what was learnt as JSON values."""
        return [asdict(part) for part in self.parts]

    @classmethod
    def of_json(cls, parts: Sequence[Mapping[str, Any]]) -> Columns:
        """Return the columns that `as_json` wrote."""
        return cls(tuple(_part(part) for part in parts))


def number_of(value: Any) -> float | None:
    """Return the number in a cell, None if it is missing.

    Raises:
        ValueError: it is no number, or an infinite one.
    """
    if is_missing(value):
        return None
    if isinstance(value, str) and "_" in value:  # Python alone reads 1_5 as 15
        raise ValueError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def is_missing(value: Any) -> bool:
    """Return whether a cell has no value."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value.strip().lower() in MISSING)


def category_of(value: Any) -> str:
    """Return the category in a cell; 1, 1.0 and "1" are one."""
    return ABSENT if is_missing(value) else name_of(value)


def name_of(value: Any) -> str:
    """Return the name in a cell that is known to have a value; 1, 1.0 and "1" are one."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def is_number(value: Any) -> bool:
    """Return whether a cell holds a number, or none where one could be; a truth value is a name."""
    try:
        number_of(value)
    except (ValueError, TypeError):
        return False
    return not isinstance(value, bool)


def alike(categories: Sequence[str]) -> list[list[str]]:
    """Return those of `categories` that are one number, written in several ways: a table may say 1 and 1.0."""
    of_number: dict[float | None, list[str]] = {}
    for name in filter(is_number, categories):
        of_number.setdefault(number_of(name), []).append(name)
    return [names for names in of_number.values() if len(names) > 1]


def kinds_of(rows: Sequence[Row], names: Sequence[str], categorical: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Return which columns are of numbers and which of categories: of numbers, if all values are.

    Args:
        rows: the training rows.
        names: the columns.
        categorical: those of them whose numbers are names, such as codes.
    """
    numeric = [name for name in names if name not in categorical and all(map(is_number, _values(rows, name)))]
    return numeric, [name for name in names if name not in numeric]


def _values(rows: Sequence[Row], name: str, places: Sequence[str] = ()) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except KeyError:
        number = next(number for number, row in enumerate(rows) if name not in row)
        place = places[number] if places else f"row {number + 1}"
        raise DataError(
            f"{place}: there is no column '{name}'.{did_you_mean(name, rows[number])} Columns: "
            f"{', '.join(map(str, rows[number])) or 'none'}"
        ) from None


def _places(rows: Sequence[Row], places: Sequence[str] | None) -> Sequence[str]:
    return places if places is not None else [f"row {number}" for number in range(1, len(rows) + 1)]


def _part(part: Mapping[str, Any]) -> Number | Category:
    return Category(part["name"], tuple(part["values"])) if "values" in part else Number(**part)
