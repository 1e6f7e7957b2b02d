"""The rows of CSV and TSV files: their delimiter, and the fields of each row with its lines."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from peftlab.data.indexed_examples import LinesOfFile
from peftlab.data.text_files import opened
from peftlab.errors import DataError

TAB_SUFFIXES = (".tsv", ".tab")
"""How the names of files end whose delimiter is a tab."""

ADVICE = "Save the file as UTF-8, or name its encoding, data.format.encoding=latin-1 for instance"
"""What to do about a file in another encoding."""

_SAMPLE = 2**22
"""Bytes at the beginning of a large file by which another delimiter is judged."""

_DELIMITERS = (",", ";", "\t", "|")

EXCEL = re.compile(r'"?sep=([^\w\s"]|\t)"?(?:\r\n|\r|\n|$)', re.IGNORECASE)
"""A first line that sets Excel's delimiter."""


class Row(NamedTuple):
    """A row of a file."""

    line: int
    """Number of its first line, from 1."""
    fields: list[str]
    lines: Sequence[str]
    """Its lines, with their ends, if there are several; else empty."""


class Located(Iterator[str]):
    """The lines of a large file as the csv module takes them, with the bytes that they have taken so far."""

    def __init__(self, file: LinesOfFile) -> None:
        self.end = 0
        self._parts = self._divided(file)

    def __next__(self) -> str:
        line, self.end = next(self._parts)
        return line

    def _divided(self, file: LinesOfFile) -> Iterator[tuple[str, int]]:
        for line in file:
            end = line.offset
            for part in io.StringIO(line.text, newline=""):  # at carriage returns, too
                end += len(part.encode())
                yield part, end


def sample_of(path: Path) -> str:
    """Return the first lines of a large file."""
    with opened(path) as file:
        content = file.read(_SAMPLE).removeprefix(codecs.BOM_UTF8)
    return content.rpartition(b"\n")[0].decode(errors="replace") + "\n"


def delimiter_of(path: Path, content: str) -> str:
    """Return the delimiter that the first line of a file names, as Excel writes it, else that of its suffix."""
    if named := EXCEL.match(content):
        return named[1]
    return "\t" if path.suffix.lower() in TAB_SUFFIXES else ","


def rows_of(path: Path, content: str, delimiter: str, quotes: bool) -> Iterator[Row]:
    """Yield the non-empty rows of a text, without a first line ``sep=;``."""
    lines = io.StringIO(content, newline="")
    line = 1 + (EXCEL.match(content) is not None and bool(lines.readline()))
    return rows_in(path, lines, line, delimiter, quotes)


def rows_in(path: Path, lines: Iterator[str], line: int, delimiter: str, quotes: bool) -> Iterator[Row]:
    """Yield the non-empty rows in `lines`, the first of which has the number `line`."""
    csv.field_size_limit(2**31 - 1)  # the default is 131,072 characters, and texts may be longer
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    taken: list[str] = []
    rows = csv.reader(_noted(lines, taken), delimiter=delimiter, quoting=quoting, strict=True)
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
            yield Row(line, fields, tuple(taken) if len(taken) > 1 else ())
        line += len(taken)
        taken.clear()


def _noted(lines: Iterator[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def likelier(path: Path, content: str, delimiter: str, quotes: bool) -> str | None:
    """Return another delimiter that gives all rows the same width, or most if `delimiter` does not occur at all."""
    widths: dict[str, int] = {}
    for other in _DELIMITERS:
        try:
            counts = [len(row.fields) for row in rows_of(path, content, other, quotes)]
        except DataError:
            continue
        alike = counts.count(counts[0]) if counts else 0
        if other != delimiter and alike >= (len(counts) if delimiter in content else 0.8 * len(counts)):
            widths[other] = counts[0] if counts else 0
    best = max(widths, key=lambda other: widths[other], default=None)
    return best if best is not None and widths[best] > 1 else None


def rows_within(row: Row, delimiter: str) -> tuple[int, list[list[str]]]:
    """Return the number of lines of a row that are not empty, and the fields of each that is a row by itself."""
    parts = [line.rstrip("\r\n").split(delimiter) for line in row.lines if line.strip("\r\n")]
    return len(parts), [part for part in parts if len(part) == len(row.fields)]


def looks_swallowed(row: Row, delimiter: str) -> bool:
    """Return whether most lines of a row have the form of rows."""
    lines, alike = rows_within(row, delimiter)
    return bool(lines) and 5 * len(alike) >= 4 * lines


def swallowed(path: Path, row: Row, lines: int, advice: str) -> DataError:
    """Return the error about a plain quotation mark that has made one row of many."""
    return DataError(
        f"{path}:{row.line}: a quotation mark opens a field that ends in line {row.line + len(row.lines) - 1}, and the "
        f"{lines} lines are rows by themselves. {advice}"
    )
