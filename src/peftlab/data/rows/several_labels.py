"""Rows with one text or text pair, and any number of labels."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.errors import DataError
from peftlab.tasks.inputs.several_labels import LabelledText

_YES_OR_NO = {"1": True, "true": True, "0": False, "false": False}
"""What a column of one label may hold, in any case."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class SeveralLabelRows(RowReader):
    """How to read texts with several labels: a list in one column, a text of them, or a column for each label."""

    example: ClassVar[type] = LabelledText

    text: str = "text"
    """The column of the text."""
    labels: str | list[str] = "labels"
    """The column of the labels: a list, also one written as text in the form of JSON or Python, or a text in which
    `separator` divides them; or the columns called like the labels, with 1 or true in those that a text has, 0 or false
    in the others."""
    separator: str = Field(default=",", min_length=1)
    """Divides the labels in a text."""
    pair: str | None = None
    """The column of the second text, for pairs."""
    group: str | None = None
    """The column of the text's group, such as its document or author: groups are held out whole."""
    weight: str | None = None
    """The column of the text's weight in the loss of the training split, a number above 0; rows without count as 1."""

    @property
    def columns(self) -> dict[str, str]:
        """The names of the columns; of several columns of labels, each is under a setting of its own."""
        own = {"text": self.text, "pair": self.pair, "group": self.group, "weight": self.weight}
        if isinstance(self.labels, str):
            own["labels"] = self.labels
        else:
            own |= {f"labels[{n}]": column for n, column in enumerate(self.labels)}
        return {setting: column for setting, column in own.items() if column is not None}

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> LabelledText:
        """Return the text in a row; raises DataError."""
        return LabelledText(
            id,
            cells.text(row, self.text, "text", place),
            tuple(sorted(set(self._labels(row, place)))),
            None if self.pair is None else cells.text(row, self.pair, "pair", place),
            place.file,
            place.line,
            None if self.group is None else cells.name(row, self.group, "group", place),
            cells.weight(row, self.weight, place),
        )

    def _labels(self, row: Mapping[str, Any], place: Place) -> list[str]:
        if not isinstance(self.labels, str):
            return [label for n, label in enumerate(self.labels) if _has(row, label, f"labels[{n}]", place)]
        value = cells.value(row, self.labels, "labels", place)
        if value is None:  # an empty cell
            return []
        if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
            return cells.names({self.labels: _listed(value.strip(), self.labels, place)}, self.labels, "labels", place)
        if isinstance(value, str):
            return [label for part in value.split(self.separator) if (label := part.strip())]
        return cells.names(row, self.labels, "labels", place)


def _listed(written: str, column: str, place: Place) -> Any:
    """Return a list that is written as text, as pandas does in CSV.

    Raises:
        DataError: it is no list in the form of JSON or Python.
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            listed = parse(written)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        # Python joins 'a' 'b', which is how NumPy writes two labels
        if parse is json.loads or repr(listed).replace(" ", "") == written.replace(" ", ""):
            return listed
    raise DataError(
        f"{place}: '{column}' is {written[:80]!r}, which is no list. Write it as JSON does, or the labels without "
        "brackets."
    )


def _has(row: Mapping[str, Any], column: str, setting: str, place: Place) -> bool:
    """Return whether a column says that the row has its label."""
    value = cells.value(row, column, setting, place)
    said = _YES_OR_NO.get(str(value).strip().casefold().removesuffix(".0"))
    if said is None:
        shown = repr(value)[:80]
        raise DataError(f"{place}: '{column}' is {shown}; expected 1 or 0, true or false. Mend or remove the row.")
    return said
