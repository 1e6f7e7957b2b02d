"""Rows with one text or text pair, and a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place
from peftlab.data.rows.texts import TextRows


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class NumberRows(TextRows):
    """How to read texts with a number each, such as a grade, which may be written as text."""

    task: ClassVar[str | None] = "regression"

    def _label(self, row: Mapping[str, Any], place: Place) -> str:
        """Return the number in a row, written so that it is read back to the last digit."""
        return repr(cells.number(row, self.label, "label", place))
