"""Print the results of commands: JSON, or tables for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from peftlab.errors import escaped
from peftlab.reading.json_form import finite


def print_json(document: Any) -> None:
    """Print a document over several lines, with null for numbers that JSON lacks."""
    print(json.dumps(finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def table(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Return `rows` as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)


def cell(value: Any) -> str:
    """Return `value` as a table shows it, with unsafe characters escaped."""
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else escaped(str(value))
