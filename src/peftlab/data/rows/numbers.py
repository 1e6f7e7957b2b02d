"""Rows with one text or text pair, and a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.tasks.texts import Text


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class NumberRows(RowReader):
    """How to read texts with a number each, such as a grade."""

    example: ClassVar[type] = Text
    task: ClassVar[str | None] = "regression"

    text: str = "text"
    """The column of the text."""
    label: str = "label"
    """The column of the number, which may be written as text."""
    pair: str | None = None
    """The column of the second text, for pairs."""
    group: str | None = None
    """The column of the text's group, such as its document or author: groups are held out whole."""

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> Text:
        """Return the text in a row, whose label is the number, written so that it is read back to the last digit."""
        return Text(
            id,
            cells.text(row, self.text, "text", place),
            repr(cells.number(row, self.label, "label", place)),
            None if self.pair is None else cells.text(row, self.pair, "pair", place),
            place.file,
            place.line,
            None if self.group is None else cells.name(row, self.group, "group", place),
        )
