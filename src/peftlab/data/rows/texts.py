"""Rows with one text or text pair, and its label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.tasks.inputs.texts import Text


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class TextRows(RowReader):
    """How to read labelled texts: labels are texts, whole numbers, true or false."""

    example: ClassVar[type] = Text

    text: str = "text"
    """The column of the text."""
    label: str = "label"
    """The column of the label."""
    pair: str | None = None
    """The column of the second text, for pairs."""
    group: str | None = None
    """The column of the text's group, such as its document or author: groups are held out whole."""
    weight: str | None = None
    """The column of the text's weight in the loss of the training split, a number above 0; rows without count as 1."""

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> Text:
        """Return the text in a row; raises DataError."""
        return Text(
            id,
            cells.text(row, self.text, "text", place),
            self._label(row, place),
            None if self.pair is None else cells.text(row, self.pair, "pair", place),
            place.file,
            place.line,
            None if self.group is None else cells.name(row, self.group, "group", place),
            cells.weight(row, self.weight, place),
        )

    def _label(self, row: Mapping[str, Any], place: Place) -> str:
        return cells.name(row, self.label, "label", place)
