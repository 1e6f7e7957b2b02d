"""A table with a text, an outcome and other columns in each row, and which of its rows are trained on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.data.rows.row_files import container_of
from peftlab.errors import ConfigError, DataError, did_you_mean
from peftlab.storage.digests import file_sha256
from peftlab.tables.columns import category_of, is_missing, name_of
from peftlab.tables.periods import at_random, by_date, date_of


@dataclass(frozen=True)
class Named:
    """The columns with a part of their own."""

    text: str
    label: str
    group: str | None
    """Rows of one group, such as an applicant, stay together in the folds."""
    time: str | None
    """The date of a row; None: rows are split at random."""

    @property
    def every(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(name for name in (self.text, self.label, self.group, self.time) if name is not None)

    @classmethod
    def of_format(cls, format: Mapping[str, Any], time: str | None) -> Named:
        """Return the columns that ``data.format`` of a configuration names.

        Raises:
            ConfigError: it reads something else than one text and its label a row, or in another way than by names.
        """
        rows = format.get("rows") or format
        if "text" not in rows or "label" not in rows:
            raise ConfigError(
                "data: a scorecard needs rows with one text and its label. Take data=csv or data=rows, data.path=FILE"
            )
        own = {"header": True, "delimiter": "auto", "quotes": True, "encoding": "utf-8", "pair": None, "weight": None}
        if odd := [key for key, usual in own.items() if rows.get(key, usual) != usual]:
            raise ConfigError(
                f"data.format.{odd[0]}={rows[odd[0]]}: acts on the text alone, and not on the columns beside it. Leave "
                "it as it is; a first line sep=; names another delimiter"
            )
        names = {key: key if rows[key] == "auto" else rows[key] for key in ("text", "label")}
        if not all(isinstance(name, str) for name in (*names.values(), rows.get("group") or "")):
            raise ConfigError("data.format: name the columns, and do not number them: a scorecard keeps their names")
        return cls(**names, group=rows.get("group"), time=time)


@dataclass(frozen=True)
class Applications:
    """The rows of a table."""

    named: Named
    rows: list[dict[str, Any]]
    places: list[str]
    """The file and line of each."""
    sha256: str
    """Of the file."""

    @property
    def columns(self) -> list[str]:
        """The columns beside those with a part of their own."""
        return [name for name in self.rows[0] if name not in self.named.every]

    def cells(self, column: str, where: np.ndarray | None = None) -> list[Any]:
        """Return the cells of a column, of all rows or of some."""
        return [self.rows[number][column] for number in self._numbers(where)]

    def part(self, where: np.ndarray) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the rows at some numbers, and their places."""
        return [self.rows[number] for number in where.tolist()], [self.places[number] for number in where.tolist()]

    def names(self, column: str, where: np.ndarray | None = None) -> list[str]:
        """Return the cells of a column as names; a label may be called none, which elsewhere is a missing value."""
        return list(map(name_of if column == self.named.label else category_of, self.cells(column, where)))

    def check(self, option: str, columns: Sequence[str]) -> None:
        """Check that there are such columns beside the text and the label.

        Raises:
            DataError: one is not there.
        """
        for name in columns:
            if name not in self.columns:
                raise DataError(
                    f"{option} {name}: there is no such column beside text and label."
                    f"{did_you_mean(name, self.columns)} Columns: {', '.join(self.columns) or 'none'}"
                )

    def split(self, validation: float, test: float, seed: int) -> np.ndarray:
        """Return the split of each row, by date if a column of dates is named, shape (rows,).

        Raises:
            DataError: a date cannot be read, or a split has no row.
        """
        named = self.named
        if named.time is not None:
            cells = zip(self.cells(named.time), self.places, strict=True)
            return by_date([date_of(cell, place, named.time) for cell, place in cells], validation, test)
        units = self.places if named.group is None else self.names(named.group)
        own = [unit.rpartition(":")[2] for unit in units] if named.group is None else units
        return at_random(own, validation, test, seed)

    def _numbers(self, where: np.ndarray | None) -> Sequence[int]:
        return range(len(self.rows)) if where is None else where.tolist()


def read_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a file, CSV, TSV, JSON Lines, Parquet or Arrow, and the place of each.

    All have the columns of any: what an object does not have is missing.

    Raises:
        DataError: it cannot be read, has no row, or has two columns of one name.
    """
    columns: Sequence[str] = ()
    for _ in range(2):  # its names are known after the first time, and only then whether they are different
        read = container_of(path).examples(path, columns, lambda row, _, place: (dict(row), str(place)), sys.maxsize)
        if not len(read):
            raise DataError(f"{path}: holds no row below its header")
        columns = list(read[0][0])
    every = dict.fromkeys(name for row, _ in read for name in row)
    return [{name: row.get(name) for name in every} for row, _ in read], [place for _, place in read]


def read_applications(path: Path, named: Named) -> Applications:
    """Return the rows of a file with an outcome each.

    Raises:
        DataError: it cannot be read, or a row lacks its text, its label or its group.
    """
    if not path.is_file():
        raise DataError(f"data.path={path}: is no file; a scorecard divides one table itself")
    rows, places = read_rows(path)
    for name in named.every:
        for row, place in zip(rows, places, strict=True):
            if name not in row:
                raise DataError(
                    f"{place}: there is no column '{name}'.{did_you_mean(name, row)} Columns: {', '.join(row)}. Name "
                    "the columns by data.format.text (of data=rows data.format.rows.text), label, group and --time"
                )
            cell = row[name]
            if not cell.strip() if isinstance(cell, str) else is_missing(cell):
                raise DataError(
                    f"{place}: '{name}' is empty. Write what is missing, such as 'no text', or remove the row"
                )
    return Applications(named, rows, places, file_sha256(path))
