"""Rows with a text and what is to be written for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.tasks.inputs.source_target import SourceTarget


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class SourceTargetRows(RowReader):
    """How to read sources and targets, such as texts and their translations."""

    example: ClassVar[type] = SourceTarget

    source: str = "source"
    """The column of the source."""
    target: str = "target"
    """The column of the target."""
    group: str | None = None
    """The column of the source's group, such as its document: groups are held out whole."""

    @property
    def text(self) -> str:
        """The name of the source among the inputs of a prediction."""
        return self.source

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> SourceTarget:
        """Return the source and the target in a row; raises DataError."""
        return SourceTarget(
            id,
            cells.text(row, self.source, "source", place),
            cells.text(row, self.target, "target", place),
            place.file,
            place.line,
            None if self.group is None else cells.name(row, self.group, "group", place),
        )
