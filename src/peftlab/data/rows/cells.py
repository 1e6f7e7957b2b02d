"""The values of a row: each function returns one of a kind, or says what is there instead.

All of them take a row, the name of a column, the setting ``data.format.rows.SETTING`` that names it, and the place of
the row; all raise DataError. A name with dots, such as ``answers.text``, leads into nested columns; in a list,
``instances.0.output`` leads to its first entry.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from peftlab.data.rows.row_reader import Place
from peftlab.errors import DataError, did_you_mean

T = TypeVar("T")

NO_GROUP = "(none)"
"""The group of rows without one, where these may be."""

_groups_may_be_empty = ContextVar("groups_may_be_empty", default=False)

_SHOWN = 200
"""Characters of a value that a message quotes."""

_LARGEST = 2**53
"""Whole numbers up to it are exact as floating-point numbers."""


@contextmanager
def groups_may_be_empty() -> Iterator[None]:
    """In the block, rows whose cell of the group is empty are of the group `NO_GROUP`."""
    token = _groups_may_be_empty.set(True)
    try:
        yield
    finally:
        _groups_may_be_empty.reset(token)


def is_no_group(cell: Any, setting: str) -> bool:
    """Return whether a cell is the empty one of a group, and may be."""
    return setting == "group" and _groups_may_be_empty.get() and not str("" if cell is None else cell).strip()


def value(row: Mapping[str, Any], column: str, setting: str, place: Place) -> Any:
    """Return the value as it stands, None where there is none."""
    if column in row:
        return row[column]
    part, begun, rest = row, "", column
    while True:
        name, dot, rest = rest.partition(".")
        begun += f".{name}" if begun else name
        if name not in part:
            raise DataError(
                f"{place}: there is no column '{begun}'.{did_you_mean(name, map(str, part))} Columns: "
                f"{_quoted(', '.join(map(str, part)) or 'none')}. Set data.format.rows.{setting} to one of them."
            )
        if not dot:
            return part[name]
        inner = part[name]
        if isinstance(inner, list) and rest.partition(".")[0].isdigit():
            inner = {str(number): entry for number, entry in enumerate(inner)}
        if not isinstance(inner, Mapping):
            raise _unfit(place, begun, inner, "named columns within it", f" Set data.format.rows.{setting}.")
        part = inner


def string(row: Mapping[str, Any], column: str, setting: str, place: Place) -> str:
    """Return a text, which may be empty."""
    return _string(value(row, column, setting, place), column, place)


def text(row: Mapping[str, Any], column: str, setting: str, place: Place) -> str:
    """Return a text that is not blank."""
    return _text(value(row, column, setting, place), column, place)


def name(row: Mapping[str, Any], column: str, setting: str, place: Place) -> str:
    """Return a label, a group or another name: a text without white space around it, or a whole number, true or false
    as JSON writes them.
    """
    one = value(row, column, setting, place)
    return NO_GROUP if is_no_group(one, setting) else _name(one, column, place)


def number(row: Mapping[str, Any], column: str, setting: str, place: Place) -> float:
    """Return a finite number, also one that is written as text."""
    one = value(row, column, setting, place)
    try:
        result = math.nan if _is_no_number(one) else float(one)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise _unfit(place, column, one, "a finite number")
    return result


def weight(row: Mapping[str, Any], column: str | None, place: Place) -> float | None:
    """Return the weight of an example in the loss, a finite number above 0; None where there is none."""
    if column is None or row.get(column) is None:
        return None
    if (result := number(row, column, "weight", place)) <= 0:
        raise _unfit(place, column, value(row, column, "weight", place), "a number above 0")
    return result


def integer(row: Mapping[str, Any], column: str, setting: str, place: Place) -> int:
    """Return a whole number, also one that is written as text or as 2.0."""
    return _integer(value(row, column, setting, place), column, place)


def texts(row: Mapping[str, Any], column: str, setting: str, place: Place) -> list[str]:
    """Return a list of texts that are not blank; it may be empty."""
    return _each(row, column, setting, place, "texts", _text)


def names(row: Mapping[str, Any], column: str, setting: str, place: Place) -> list[str]:
    """Return a list of names, see `name`; it may be empty."""
    return _each(row, column, setting, place, "names", _name)


def integers(row: Mapping[str, Any], column: str, setting: str, place: Place) -> list[int]:
    """Return a list of whole numbers, see `integer`; it may be empty."""
    return _each(row, column, setting, place, "whole numbers", _integer)


def _each(
    row: Mapping[str, Any], column: str, setting: str, place: Place, what: str, one: Callable[[Any, str, Place], T]
) -> list[T]:
    listed = value(row, column, setting, place)
    if not isinstance(listed, list):
        raise _unfit(place, column, listed, f"a list of {what}")
    return [one(each, f"{column}[{n}]", place) for n, each in enumerate(listed)]


def _string(one: Any, column: str, place: Place) -> str:
    if not isinstance(one, str):
        raise _unfit(place, column, one, "a text")
    return one


def _text(one: Any, column: str, place: Place) -> str:
    if not isinstance(one, str) or not one.strip():
        raise _unfit(place, column, one, "a text")
    return one


def _name(one: Any, column: str, place: Place) -> str:
    if isinstance(one, float):
        raise _unfit(place, column, one, "a text or a whole number", f' Write it as a text, "{one}".')
    if not isinstance(one, str | int):
        raise _unfit(place, column, one, "a text or a whole number")
    written = json.dumps(one) if isinstance(one, bool) else str(one).strip()
    if not written:
        raise _unfit(place, column, one, "a text or a whole number")
    return written


def _integer(one: Any, column: str, place: Place) -> int:
    try:
        result = None if _is_no_number(one) else int(one)
    except (TypeError, ValueError, OverflowError):
        result = None
    if result is None or (isinstance(one, float) and (result != one or abs(result) > _LARGEST)):
        raise _unfit(place, column, one, "a whole number")
    return result


def _is_no_number(one: Any) -> bool:
    """Return whether Python alone takes a value for a number: true, or 1_5 for 15."""
    return isinstance(one, bool) or (isinstance(one, str) and "_" in one)


def _unfit(place: Place, column: str, one: Any, expected: str, way_out: str = "") -> DataError:
    return DataError(
        f"{place}: '{column}' is {_quoted(_as_json(one))}; expected {expected}.{way_out or ' Mend or remove the row.'}"
    )


def _as_json(one: Any) -> str:
    return json.dumps(one, default=lambda other: f"{type(other).__name__} {other}", ensure_ascii=False)


def _quoted(written: str) -> str:
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}..."
