"""The interface of a row reader: which columns it takes, and the example that it makes of a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple


class Place(NamedTuple):
    """Where a row stands."""

    file: str
    line: int
    """Its line in a text file, else its number in the table, from 1."""

    def __str__(self) -> str:
        """Return it as it begins a message."""
        return f"{self.file}:{self.line}"


class _Object(Place):
    def __str__(self) -> str:
        return self.file


OBJECT = _Object("the object", 1)
"""The place of an object that is to be answered and stands in no file."""


class RowReader(ABC):
    """Makes examples of one kind; a subclass is a pydantic dataclass whose fields name columns.

    The fields ``text`` and ``pair``, if there are, say what the inputs of a prediction are called, and ``group`` that
    examples of one group are held out together.
    """

    example: ClassVar[type]
    """The kind of example."""
    task: ClassVar[str | None] = None
    """The option of ``conf/task`` that the reader is for; None: the first that takes such examples."""

    @property
    def columns(self) -> dict[str, str]:
        """The name of each column that is read, by the setting that names it: by default, every field with a text."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return {setting: column for setting, column in named if isinstance(column, str)}

    @abstractmethod
    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> Any:
        """Return the example in a row; None leaves the row out, and the run record counts it.

        Args:
            row: the values by column, as JSON has them; in a table of text, such as CSV, strings or None.
            id: the id of the example.
            place: where the row stands, for messages and for the example.

        Raises:
            DataError: a column is missing, or its value is not what it must be.
        """

    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an object that is to be answered, in which the data's own columns have the names that the task takes.

        By default it is returned as it is: ``text`` and ``pair`` say what else a text may be called.

        Raises:
            DataError: a value is not what it must be.
        """
        return fields
