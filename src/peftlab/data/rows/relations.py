"""Rows with a text, two entities in it, and the label of their relation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.errors import DataError
from peftlab.tasks.inputs.marked_texts import MarkedText, Slice


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class RelationRows(RowReader):
    """How to read relations: the entities are marked in the text, ``<e1>Ada</e1> was born in <e2>London</e2>``, or two
    columns hold start and end of each in characters, ``[0, 3]``.
    """

    example: ClassVar[type] = MarkedText
    pair: ClassVar[None] = None

    text: str = "text"
    """The column of the text."""
    head: str | None = None
    """The column of the first argument's start and end; None: both are marked in the text."""
    tail: str | None = None
    """The column of the second argument's start and end."""
    label: str = "label"
    """The column of the label, which may end with a direction: ``Cause-Effect(e2,e1)``."""
    group: str | None = None
    """The column of the text's group, such as its document: groups are held out whole."""

    def __post_init__(self) -> None:
        """Check that both columns are named, or neither."""
        if (self.head is None) != (self.tail is None):
            raise ValueError("head and tail: name both columns, or neither for entities that are marked in the text")

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> MarkedText:
        """Return the relation in a row; raises DataError."""
        text = cells.text(row, self.text, "text", place)
        label = cells.name(row, self.label, "label", place)
        group = None if self.group is None else cells.name(row, self.group, "group", place)
        try:
            if self.head is None or self.tail is None:
                marked = MarkedText.of_marked(text, id, label, place.file, place.line)
                return MarkedText(id, marked.text, marked.head, marked.tail, label, place.file, place.line, group)
            head, tail = (_slice(row, one, name, place) for one, name in ((self.head, "head"), (self.tail, "tail")))
            return MarkedText(id, text, head, tail, label, place.file, place.line, group).checked()
        except ValueError as error:
            way_out = (
                "Mark the entities as <e1>...</e1> and <e2>...</e2>, or name the columns of their places with "
                "data.format.rows.head and tail."
                if self.head is None
                else "Mend or remove the row."
            )
            raise DataError(f"{place}: '{self.text}': {error}. {way_out}") from None


def _slice(row: Mapping[str, Any], column: str, setting: str, place: Place) -> Slice:
    numbers = cells.integers(row, column, setting, place)
    if len(numbers) != 2:
        raise DataError(f"{place}: '{column}' has {len(numbers)} numbers; expected two: start and end in characters.")
    return numbers[0], numbers[1]
