"""CSV and TSV files: one text or text pair per row, with its label."""

from __future__ import annotations

import io
import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.delimited_rows import (
    ADVICE,
    EXCEL,
    Located,
    Row,
    delimiter_of,
    likelier,
    looks_swallowed,
    rows_in,
    rows_of,
    rows_within,
    sample_of,
    swallowed,
)
from peftlab.data.examples import Examples
from peftlab.data.indexed_examples import Index, LinesOfFile
from peftlab.data.rows.cells import NO_GROUP, is_no_group
from peftlab.data.separators import Separator, setting
from peftlab.data.text_files import Encoding, is_utf_8, read_text
from peftlab.errors import DataError, did_you_mean
from peftlab.tasks.inputs.texts import Text

log = logging.getLogger("peftlab")


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Delimited:
    """How to read files of delimited columns (RFC 4180): quoted fields may hold delimiters, line ends and doubled
    quotes. Line ends may be of any system; a byte order mark and empty lines are skipped.

    If a quotation mark is a plain character, the text after it may look like a quoted field that spans many rows: if
    each of its lines is a valid row, the file is refused.
    """

    example: ClassVar[type] = Text

    text: str | int = "auto"
    """The column of the text, by its name in the header or its number from 0 (-1: the last); auto: the one called text,
    or the other one of two."""
    label: str | int = "auto"
    """The column of the label, likewise; auto: the one called label, or the other one of two."""
    pair: str | int | None = None
    """The column of the second text, for pairs."""
    group: str | int | None = None
    """The column of the text's group, such as its document or author: groups are held out whole."""
    weight: str | int | None = None
    """The column of the text's weight in the loss of the training split, a number above 0; rows without count as 1."""
    header: bool = True
    """Whether the first row has the names of the columns; without it, columns are numbered."""
    delimiter: Annotated[Separator, Field(min_length=1)] = "auto"
    """One character, or ``tab``; auto: that of a first line ``sep=;``, as Excel writes it, else a tab in files called
    .tsv or .tab, else a comma."""
    quotes: bool = True
    """Whether double quotes enclose fields; false: they are plain characters."""
    encoding: Encoding = "utf-8"
    """The encoding of the files."""

    def __post_init__(self) -> None:
        """Check combinations of options."""
        if self.delimiter != "auto" and (len(self.delimiter) > 1 or self.delimiter in '"\r\n'):
            raise ValueError(f"delimiter = {self.delimiter!r} must be one character, and no quote or line end, or auto")
        named = [f"{key}={value}" for key, value in self._columns.items() if isinstance(value, str)]
        if not self.header and named:
            raise ValueError(f"without a header, columns are numbers from 0, not {', '.join(named)}")

    @property
    def _columns(self) -> dict[str, str | int]:
        columns = {"text": self.text, "pair": self.pair, "label": self.label, "group": self.group}
        columns["weight"] = self.weight
        return {key: column for key, column in columns.items() if column is not None}

    @property
    def _plain_quotes(self) -> str:
        return ", or data.format.quotes=false where quotes are plain characters" if self.quotes else ""

    def read(self, files: Mapping[str, Path]) -> dict[str, Sequence[Text]]:
        """Return the texts of each split, with the ids ``split:0``, ``split:1``, ...

        Those of a large file in UTF-8 are read and parsed again when they are accessed, see `IndexedExamples`.

        Args:
            files: the file of each split.

        Raises:
            DataError: a file is missing, empty or not in its encoding, or a row is malformed; the message names the
                file and the line.
        """
        return {split: self._read_file(split, path) for split, path in files.items()}

    def _read_file(self, split: str, path: Path) -> Sequence[Text]:
        file = LinesOfFile(path, ADVICE)
        if file.is_large and is_utf_8(self.encoding):
            return self._index_file(split, file)
        content = read_text(path, self.encoding, advice=ADVICE)
        delimiter = self._delimiter(path, content)
        rows = rows_of(path, content, delimiter, self.quotes)
        with self._delimiter_in_doubt(path, content, delimiter):
            first = _first(split, path, rows)
            columns = self._find_columns(path, first)
            body = list(rows) if self.header else [first, *rows]
            for row in body:
                self._check_width(path, first, row)
            for row in body:
                self._check_header(path, first, row)
        _check_quotes(path, delimiter, columns["label"], body, {row.fields[columns["label"]] for row in body})
        texts = [_text(f"{split}:{n}", path, columns, row) for n, row in enumerate(body)]
        counts = _counts(split, path, len(texts), sum(bool(row.lines) for row in body))
        return Examples(texts, counts)

    def _index_file(self, split: str, file: LinesOfFile) -> Sequence[Text]:
        """Return the texts of a large file, of which one row at a time is in memory."""
        path, lines, sample = file.path, Located(file), sample_of(file.path)
        delimiter, named = self._delimiter(path, sample), EXCEL.match(sample) is not None
        if named:
            next(lines)
        begin = lines.end
        rows = rows_in(path, lines, 1 + named, delimiter, self.quotes)
        labels: set[str] = set()
        doubtful: list[Row] = []
        over_lines = 0
        with self._delimiter_in_doubt(path, sample, delimiter):
            first = _first(split, path, rows)
            columns = self._find_columns(path, first)
            index = Index(path, partial(self._parsed, split, path, columns, delimiter))
            if self.header:
                begin = lines.end
            for row in rows if self.header else itertools.chain([first], rows):
                self._check_width(path, first, row)
                self._check_header(path, first, row)
                _text("", path, columns, row)  # refuses empty cells
                labels.add(row.fields[columns["label"]])
                over_lines += bool(row.lines)
                if row.lines and looks_swallowed(row, delimiter):
                    doubtful.append(row)
                index.add(begin, row.line)
                begin = lines.end
        _check_quotes(path, delimiter, columns["label"], doubtful, labels)
        return index.examples(file.state, file.sha256, _counts(split, path, len(index), over_lines))

    def _parsed(
        self, split: str, path: Path, columns: dict[str, int], delimiter: str, lines: bytes, place: int, number: int
    ) -> Text:
        """Return the text in the first row of some lines, which was read before and is well-formed."""
        row = next(rows_in(path, io.StringIO(lines.decode(), newline=""), number, delimiter, self.quotes))
        return _text(f"{split}:{place}", path, columns, row._replace(line=number))

    @contextmanager
    def _delimiter_in_doubt(self, path: Path, content: str, delimiter: str) -> Iterator[None]:
        """Explain an error within by another delimiter of `content`, if there is a likelier one."""
        try:
            yield
        except DataError:  # the delimiter may be at fault, not the row
            if other := likelier(path, content, delimiter, self.quotes):
                raise DataError(
                    f"{path}: the delimiter is not {delimiter!r}: its rows agree in the number of {other!r}. Set "
                    f"{setting('data.format.delimiter', other)}."
                ) from None
            raise

    def _delimiter(self, path: Path, content: str) -> str:
        if self.delimiter != "auto":
            return self.delimiter
        return delimiter_of(path, content)

    def _check_width(self, path: Path, first: Row, row: Row) -> None:
        if len(row.fields) != len(first.fields):
            raise DataError(
                f"{path}:{row.line}: expected {len(first.fields)} columns as in line {first.line}, found "
                f"{len(row.fields)}. Mend the row: a field that holds the delimiter is put in quotes; or set "
                f"data.format.delimiter{self._plain_quotes}."
            )

    def _check_header(self, path: Path, first: Row, row: Row) -> None:
        """Refuse a repeated header, as in concatenated files: its cells would become a text and a label."""
        if self.header and row.fields == first.fields:
            raise DataError(
                f"{path}:{row.line}: the row repeats the header of line {first.line}, as in concatenated files. "
                "Remove the row."
            )

    def _find_columns(self, path: Path, first: Row) -> dict[str, int]:
        """Return the positions of the columns of text, pair, label, group and weight."""
        width = len(first.fields)
        names = [name.strip() for name in first.fields] if self.header else []
        positions = {key: self._position(path, first.line, key, names, width) for key in self._columns}
        for key in [key for key, column in positions.items() if column is None and key != "weight"]:
            left = set(range(width)) - {column for column in positions.values() if column is not None}
            if width != 2 or len(left) != 1:
                raise DataError(
                    f"{path}:{first.line}: which column is the {key}? None is called '{key}'; there are "
                    f"{', '.join(names)}. Name it: data.format.{key}=NAME."
                )
            positions[key] = left.pop()
        columns = {key: column for key, column in positions.items() if column is not None}
        used: dict[int, str] = {}
        for key, column in columns.items():
            if (other := used.setdefault(column, key)) != key:
                raise DataError(
                    f"{path}:{first.line}: {other} and {key} are the same column of {width}. Set data.format.{other} "
                    f"and data.format.{key} to two columns, or data.format.delimiter to what separates them."
                )
        return columns

    def _position(self, path: Path, line: int, key: str, names: list[str], width: int) -> int | None:
        """Return the position of a column; None if it is ``auto`` and no column has that name."""
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
        if wanted == "auto" or key == "weight":  # only the training file needs weights, see `read_data_set`
            return None
        raise DataError(
            f"{path}:{line}: there is no column '{name}'.{did_you_mean(name, names)} Columns: {', '.join(names)}. Set "
            f"data.format.{key} to one of them, or data.format.header=false where that is no header."
        )


def _first(split: str, path: Path, rows: Iterator[Row]) -> Row:
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: empty split '{split}': the file holds no row. Expected a text and a label a row.")
    return first


def _text(id: str, path: Path, columns: Mapping[str, int], row: Row) -> Text:
    """Return the text of a row; raises DataError if a cell of it is empty."""
    values = {key: row.fields[column] for key, column in columns.items()}
    if is_no_group(values.get("group", NO_GROUP), "group"):
        values["group"] = NO_GROUP
    for key, value in values.items():
        if not value.strip() and key != "weight":
            raise DataError(f"{path}:{row.line}: the {key} is empty. Write one, or remove the row.")
    group = values.get("group")
    return Text(
        id,
        values["text"],
        values["label"].strip(),
        values.get("pair"),
        str(path),
        row.line,
        None if group is None else group.strip(),
        _weight(values.get("weight"), path, row.line),
    )


def _weight(written: str | None, path: Path, line: int) -> float | None:
    """Return the weight in a cell, None if it is empty; raises DataError if it is no number above 0."""
    if written is None or not written.strip():
        return None
    try:
        weight = float(written)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise DataError(f"{path}:{line}: the weight is '{written}'; expected a number above 0. Mend or remove the row.")
    return weight


def _counts(split: str, path: Path, rows: int, over_lines: int) -> dict[str, int]:
    """Return what is counted in a file; raises DataError if it has no row."""
    if not rows:
        raise DataError(f"{path}: empty split '{split}': the file holds a header, and no row below it.")
    if over_lines:
        log.info("%s: %d of %d rows go over several lines, in quotes", path, over_lines, rows)
    return {"rows_over_lines": over_lines}


def _check_quotes(path: Path, delimiter: str, label: int, rows: Sequence[Row], labels: Set[str]) -> None:
    """Refuse a quoted field most of whose lines are valid rows: a plain quotation mark has swallowed them.

    A text of several lines may hold delimiters too, commas above all. But few of its lines have the right number of
    them, and labels of other rows in the label column.
    """
    for row in rows:
        lines, alike = rows_within(row, delimiter)
        labelled = sum(fields[label] in labels for fields in alike)
        if looks_swallowed(row, delimiter) and 2 * labelled > lines:
            raise swallowed(
                path, row, lines, "Set data.format.quotes=false where quotes are plain characters, or mend the mark."
            )
