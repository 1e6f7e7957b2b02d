"""CSV and TSV with a header: a row has text or nothing in each column."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peftlab.data.containers.container import Make
from peftlab.data.delimited_rows import (
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
from peftlab.data.rows.row_reader import Place
from peftlab.data.text_files import read_text
from peftlab.errors import DataError


@dataclass(frozen=True)
class DelimitedContainer:
    """Reads files of delimited columns (RFC 4180) in UTF-8, or in UTF-16 with a byte order mark. Semicolons are taken
    for delimiters where a first line ``sep=;`` says so, tabs in files called .tsv, else commas; an empty cell is None.
    """

    def examples(self, path: Path, columns: Collection[str], make: Make, held: int) -> Sequence[Any]:
        """Return the examples of the rows below the header, see `Container`."""
        file = LinesOfFile(path)
        indexed = not held and file.is_divided
        content = sample_of(path) if indexed else read_text(path)
        delimiter = delimiter_of(path, content)
        lines = Located(file)
        rows = _rows_of_file(path, lines, content, delimiter) if indexed else rows_of(path, content, delimiter, True)
        examples: list[Any] = []
        doubtful: list[Row] = []
        left_out = 0
        try:
            first = next(rows, None)
            if first is None:
                return examples
            names = _names(path, first, columns)
            index = Index(path, partial(_parsed, str(path), names, delimiter, make))
            begin = lines.end
            for row in rows:
                _check(path, first, row)
                if looks_swallowed(row, delimiter):
                    doubtful.append(row)
                example = make(_cells(names, row), len(examples) + len(index), Place(str(path), row.line))
                if example is None:
                    left_out += 1
                elif indexed:
                    index.add(begin, row.line)
                else:
                    examples.append(example)
                begin = lines.end
        except DataError:  # the delimiter may be at fault, not the row
            if other := likelier(path, content, delimiter, True):
                raise DataError(
                    f"{path}: the delimiter is not {delimiter!r}: its rows agree in the number of {other!r}. Write "
                    f"sep={other} in a first line of its own, or use {delimiter!r}."
                ) from None
            raise
        if doubtful:
            lines = Located(LinesOfFile(path))
            rows = (
                _rows_of_file(path, lines, content, delimiter) if indexed else rows_of(path, content, delimiter, True)
            )
            _check_quotes(path, delimiter, doubtful, rows)
        counts = {"left_out": left_out}
        return index.examples(file.state, file.sha256, counts) if indexed else Examples(examples, counts)


def _rows_of_file(path: Path, lines: Located, content: str, delimiter: str) -> Iterator[Row]:
    """Yield the rows of a large file."""
    named = EXCEL.match(content) is not None
    if named:
        next(lines)
    return rows_in(path, lines, 1 + named, delimiter, True)


def _names(path: Path, header: Row, columns: Collection[str]) -> list[str]:
    names = [name.strip() for name in header.fields]
    for name in columns:
        if names.count(name) > 1:
            raise DataError(f"{path}:{header.line}: {names.count(name)} columns are called '{name}'. Rename them.")
    return names


def _check(path: Path, first: Row, row: Row) -> None:
    if len(row.fields) != len(first.fields):
        raise DataError(
            f"{path}:{row.line}: expected {len(first.fields)} columns as in line {first.line}, found "
            f"{len(row.fields)}. Mend the row: a field that holds the delimiter is put in quotes."
        )
    if row.fields == first.fields:
        raise DataError(
            f"{path}:{row.line}: the row repeats the header of line {first.line}, as in concatenated files. Remove it."
        )


def _check_quotes(path: Path, delimiter: str, doubtful: Sequence[Row], rows: Iterator[Row]) -> None:
    """Refuse a quoted field whose lines are valid rows: a plain quotation mark has swallowed them.

    Lines of a text may hold as many delimiters as a row has. But few of them have what rows have in a column: one
    of its labels, or a number.
    """
    within = [rows_within(row, delimiter) for row in doubtful]
    wanted = {one for _, alike in within for fields in alike for one in _contents(fields)}
    usual = {one for row in rows for one in _contents(row.fields) if one in wanted}
    for row, (lines, alike) in zip(doubtful, within, strict=True):
        counts = Counter(column for fields in alike for column, what in _contents(fields) if (column, what) in usual)
        if 2 * max(counts.values(), default=0) > lines:
            raise swallowed(
                path,
                row,
                lines,
                "Write a field that holds a mark in quotes, with the mark doubled; or read texts and labels by "
                "data=csv data.format.quotes=false.",
            )


def _contents(fields: Sequence[str]) -> Iterator[tuple[int, str | None]]:
    """Yield the number and the content of each column that is not blank; numbers are all None."""
    for column, field in enumerate(fields):
        try:
            float(field)
        except ValueError:
            if what := field.strip():
                yield column, what
        else:
            yield column, None


def _cells(names: Sequence[str], row: Row) -> Mapping[str, str | None]:
    return {name: field or None for name, field in zip(names, row.fields, strict=True)}


def _parsed(file: str, names: Sequence[str], delimiter: str, make: Make, lines: bytes, position: int, line: int) -> Any:
    """Return the example in the first row of some lines, which was read before and is well-formed."""
    row = next(rows_in(Path(file), io.StringIO(lines.decode(), newline=""), line, delimiter, True))
    return make(_cells(names, row), position, Place(file, line))
