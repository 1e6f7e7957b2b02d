"""Another column of the files that examples were read from, such as the dialect or the gender of their authors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from peftlab.errors import ConfigError, DataError


def attribute(examples: Sequence[Any], column: str, format: Any) -> list[str]:
    """Return the value of `column` for each of `examples`.

    The files are read again by `format`, with `column` in the place of that of the groups that are held out whole.

    Args:
        examples: examples that were read from files, each with its ``file`` and its ``line``.
        column: the name of the column, or its number from 0 in a file without a header.
        format: an object of the section ``data.format``.

    Raises:
        ConfigError: the format reads no columns by their names.
        DataError: there is no such column, or a cell of it is empty; the message names file and line.
    """
    reader = by_column(format, column)
    files = sorted({example.file for example in examples})
    rows = {_place(row): row.group for file in files for row in reader.read({"train": Path(file)})["train"]}
    try:
        return [rows[_place(example)] for example in examples]
    except KeyError as missing:
        raise DataError(f"{':'.join(map(str, missing.args[0]))}: the file has changed since it was read") from None


def by_column(format: Any, column: str) -> Any:
    """Return a format that reads the same examples, with the value of `column` as the ``group`` of each.

    Raises:
        ConfigError: the format reads no columns by their names.
    """
    named = int(column) if getattr(format, "header", True) is False and column.isdigit() else column
    rows = getattr(format, "rows", None)
    reader = format if rows is None else rows
    is_of_folders = getattr(format, "takes_folders", False) is True  # its groups, if any, are parts of names
    if is_of_folders or not is_dataclass(reader) or "group" not in {field.name for field in fields(reader)}:
        raise ConfigError(
            f"column={column}: files of {type(format).__name__} have no columns besides text and label. Use CSV, TSV, "
            "JSON Lines or Parquet, or find groups of texts by terms=THEME"
        )
    changed: Any = replace(reader, group=named)  # type: ignore[type-var]
    return changed if rows is None else replace(format, rows=changed)


def _place(example: Any) -> tuple[str, int]:
    """Return the file and the line at which an example begins; one of words has a line for each."""
    return example.file, example.lines[0] if hasattr(example, "lines") else example.line
