"""CSV and TSV files: a text a row, or a pair of texts, and its label."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.text_files import Encoding, read_text
from peftlab.errors import DataError, did_you_mean
from peftlab.tasks.texts import Text

TAB_SUFFIXES = (".tsv", ".tab")


class _Row(NamedTuple):
    line: int
    fields: list[str]


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Delimited:
    """How to read files of delimited columns (RFC 4180): fields in quotes may hold delimiters, line ends and, doubled,
    quotes. Line ends may be of any system; a byte order mark is left out, and so are empty lines.
    """

    text: str | int = "auto"
    """The column of the text, by its name in the header or its number from 0 (-1: the last); auto: the one called text,
    or the other one where there are two."""
    label: str | int = "auto"
    """The column of the label, likewise; auto: the one called label, or the other one where there are two."""
    pair: str | int | None = None
    """The column of the second text, of pairs."""
    header: bool = True
    """Whether the first row has the names of the columns; without it, columns are numbered."""
    delimiter: Annotated[str, Field(min_length=1)] = "auto"
    """One character; auto: a tab in files called .tsv or .tab, else a comma."""
    quotes: bool = True
    """Whether double quotes around a field are not part of it; false where they are plain characters."""
    encoding: Encoding = "utf-8"
    """Of the files."""

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.delimiter != "auto" and (len(self.delimiter) > 1 or self.delimiter in '"\r\n'):
            raise ValueError(f"delimiter = {self.delimiter!r} must be one character, and no quote or line end, or auto")
        named = [f"{key}={value}" for key, value in self._columns.items() if isinstance(value, str)]
        if not self.header and named:
            raise ValueError(f"without a header, columns are numbers from 0, not {', '.join(named)}")

    @property
    def _columns(self) -> dict[str, str | int]:
        given = {"text": self.text, "pair": self.pair, "label": self.label}
        return {key: value for key, value in given.items() if value is not None}

    @property
    def _plain_quotes(self) -> str:
        return ", or data.format.quotes=false where quotes are plain characters" if self.quotes else ""

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Text]]:
        """Return the texts of each split, with the ids ``split:0``, ``split:1``, ...

        Args:
            files: the file of each split.

        Raises:
            DataError: a file is missing, empty or not in its encoding, or a row does not fit; the message names the
                file and the line.
        """
        return {split: self._read_file(split, path) for split, path in files.items()}

    def _read_file(self, split: str, path: Path) -> list[Text]:
        rows = self._rows(path)
        first = next(rows, None)
        if first is None:
            raise DataError(f"{path}: empty split '{split}': the file holds no row. Expected a text and a label a row.")
        columns = self._find_columns(path, first)
        texts: list[Text] = []
        for line, fields in rows if self.header else (row for part in ([first], rows) for row in part):
            if len(fields) != len(first.fields):
                raise DataError(
                    f"{path}:{line}: expected {len(first.fields)} columns as in line {first.line}, found "
                    f"{len(fields)}. Mend the row: a field that holds the delimiter is put in quotes; or set "
                    f"data.format.delimiter{self._plain_quotes}."
                )
            values = {key: fields[column] for key, column in columns.items()}
            for key, value in values.items():
                if not value.strip():
                    raise DataError(f"{path}:{line}: the {key} is empty. Write one, or remove the row.")
            text, label, pair = values["text"], values["label"].strip(), values.get("pair")
            texts.append(Text(f"{split}:{len(texts)}", text, label, pair, str(path), line))
        if not texts:
            raise DataError(f"{path}: empty split '{split}': the file holds a header, and no row below it.")
        return texts

    def _rows(self, path: Path) -> Iterator[_Row]:
        """Yield the rows of a file that are not empty, with the line that each begins at."""
        advice = "Save the file as UTF-8, or name its encoding, data.format.encoding=latin-1 for instance"
        text = read_text(path, self.encoding, advice=advice)
        csv.field_size_limit(2**31 - 1)  # its own limit is 131,072 characters, and texts may be longer
        delimiter = self.delimiter
        if delimiter == "auto":
            delimiter = "\t" if path.suffix.lower() in TAB_SUFFIXES else ","
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
        line = 1
        while True:
            try:
                fields = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"{path}:{line}: the row that begins here cannot be read ({error}). A quote within a field in "
                    "quotes is doubled; set data.format.quotes=false where quotes are plain characters."
                ) from None
            if fields and fields != [""]:
                yield _Row(line, fields)
            line = rows.line_num + 1

    def _find_columns(self, path: Path, first: _Row) -> dict[str, int]:
        """Return the position of the columns of text, pair and label."""
        width = len(first.fields)
        names = [name.strip() for name in first.fields] if self.header else []
        found = {key: self._position(path, first.line, key, names, width) for key in self._columns}
        for key in [key for key, column in found.items() if column is None]:
            left = set(range(width)) - {column for column in found.values() if column is not None}
            if width != 2 or len(left) != 1:
                raise DataError(
                    f"{path}:{first.line}: which column is the {key}? None is called '{key}'; there are "
                    f"{', '.join(names)}. Name it: data.format.{key}=NAME."
                )
            found[key] = left.pop()
        columns = {key: column for key, column in found.items() if column is not None}
        used: dict[int, str] = {}
        for key, column in columns.items():
            if (other := used.setdefault(column, key)) != key:
                raise DataError(
                    f"{path}:{first.line}: {other} and {key} are the same column of {width}. Set data.format.{other} "
                    f"and data.format.{key} to two columns, or data.format.delimiter to what separates them."
                )
        return columns

    def _position(self, path: Path, line: int, key: str, names: list[str], width: int) -> int | None:
        """Return the position of a column; None where it is to be found, and no column is called like it."""
        wanted = self._columns[key]
        if isinstance(wanted, int):
            if not -width <= wanted < width:
                raise DataError(
                    f"{path}:{line}: data.format.{key}={wanted} is out of range, the row has {width} columns. Allowed "
                    f"are {-width} to {width - 1}; or set data.format.delimiter."
                )
            return wanted % width
        name = key if wanted == "auto" else wanted
        if names.count(name) > 1:
            raise DataError(
                f"{path}:{line}: {names.count(name)} columns are called '{name}'. Give its number from 0, "
                f"data.format.{key}={names.index(name)} for the first."
            )
        if name in names:
            return names.index(name)
        if wanted == "auto":
            return None
        raise DataError(
            f"{path}:{line}: there is no column '{name}'.{did_you_mean(name, names)} Columns: {', '.join(names)}. Set "
            f"data.format.{key} to one of them, or data.format.header=false where that is no header."
        )
