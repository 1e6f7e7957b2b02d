"""Why an application got its score: the columns that raised its odds most, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from peftlab.tables.columns import is_missing

TEXT = "(text)"
"""The column of the text's score, in log odds."""

NUMBER = 3
"""How many reasons are told."""


@dataclass(frozen=True)
class Reason:
    """A column, and what it does to the log odds of a row."""

    column: str
    contribution: float
    says: str

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def reasons(columns: Sequence[str], contributions: Sequence[float], row: Mapping[str, Any]) -> list[Reason]:
    """Return the columns that raised the odds of a row most; fewer than `NUMBER` if fewer did.

    Args:
        columns: the names of the columns.
        contributions: what each contributes to the log odds.
        row: the cells by column.
    """
    raising = sorted((one for one in zip(contributions, columns, strict=True) if one[0] > 0), key=lambda one: -one[0])
    return [Reason(name, float(value), _sentence(name, row.get(name), value)) for value, name in raising[:NUMBER]]


def _sentence(name: str, cell: Any, value: float) -> str:
    odds = f"multiplies the odds by {math.exp(value):.2f}"
    if name == TEXT:
        return f"what the text says {odds}"
    return f"{name}, which {'is missing' if is_missing(cell) else f'is {cell}'}, {odds}"
