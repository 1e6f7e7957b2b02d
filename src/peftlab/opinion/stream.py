"""Rows of a stream, in blocks: CSV or JSON Lines, a file that grows, or stdin."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from peftlab.data.text_files import opened
from peftlab.errors import DataError, did_you_mean
from peftlab.reading.unicode_text import Door

log = logging.getLogger("peftlab")

Row = Mapping[str, Any]

BLOCK = 16_384
"""Rows that are read, answered and counted at once."""
_PART = 1 << 20
_DELIMITERS = (",", "\t", ";", "|")
_LONGEST_FIELD = 1 << 24
_END = "end"
"""A line behind the last one of a file that grows."""


@dataclass(frozen=True)
class Place:
    """How far a file has been read, and the digest of that part: the file may grow, and what was read must stay."""

    bytes: int = 0
    sha256: str = hashlib.sha256().hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


class Stream:
    """The rows of a file, or of stdin for ``-``.

    A file that begins with what has been read before goes on there; the rows of any other are all new. It is JSON Lines
    if its first line begins with a brace, and else CSV with a header.

    Args:
        name: the file.
        columns: those that each row must have.
        after: how far a file was read before.
        final: whether nothing more is written. Otherwise the last line of a file waits for its end, as does a row with
            a text of several lines: it may be half written.
    """

    def __init__(self, name: str, columns: Iterable[str], after: Place | None = None, final: bool = False) -> None:
        self.name = "stdin" if name == "-" else name
        self._path = None if name == "-" else Path(name)
        self._columns = list(columns)
        self._after = after or Place()
        self._whole = final or self._path is None
        self._digest, self._bytes, self._number = hashlib.sha256(), 0, 0
        self.unfinished = False
        """Whether the last line, or the last row, has no end yet, and was left for a later call."""
        self._has_ended = False
        self.faults: list[str] = []
        """What is wrong with lines that are no rows, each with its place."""

    @property
    def place(self) -> Place | None:
        """How far the file has been read; None: stdin."""
        return None if self._path is None else Place(self._bytes, self._digest.hexdigest())

    def blocks(self) -> Iterator[list[tuple[int, Row]]]:
        """Yield the rows with the numbers of their lines, at most `BLOCK` at a time.

        Raises:
            DataError: it cannot be read, or has not the columns.
        """
        if self._path is None:
            stdin: BinaryIO = getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())
            yield from self._blocks(stdin, None)
            return
        with opened(self._path) as file:
            head = next((line for line in file if line.removeprefix(codecs.BOM_UTF8).strip()), b"")
            file.seek(0)
            goes_on = self._skip(file)
            yield from self._blocks(file, head if goes_on else None)

    def _skip(self, file: BinaryIO) -> bool:
        """Go past what was read before if the file begins with it, and return whether there was any.

        Raises:
            DataError: what was read ended within a line.
        """
        left, last = self._after.bytes, b""
        while left and (part := file.read(min(left, _PART))):
            self._digest.update(part)
            self._bytes, left, last = self._bytes + len(part), left - len(part), part
            self._number += part.count(b"\n")
        if left or self._digest.hexdigest() != self._after.sha256:
            log.info("%s: does not begin with what was read before: all of its rows are new", self.name)
            file.seek(0)
            self._digest, self._bytes, self._number = hashlib.sha256(), 0, 0
            return False
        following = file.read(1)
        file.seek(self._bytes)
        if last and not last.endswith(b"\n") and following not in (b"", b"\n", b"\r"):
            raise DataError(f"{self.name}: goes on in the middle of a line that was read before. Write whole lines.")
        return bool(last)

    def _blocks(self, file: BinaryIO, head: bytes | None) -> Iterator[list[tuple[int, Row]]]:
        lines = self._lines(file)
        first = next(lines, None) if head is None else head.decode("utf-8-sig", "replace")
        if first is None:
            return
        if first.lstrip().startswith("{"):
            rows = self._objects(lines if head is not None else _with(first, lines))
        else:
            rows = self._delimited(first, lines)
        block: list[tuple[int, Row]] = []
        for row in rows:
            block.append((self._number, row))
            if len(block) == BLOCK:
                yield block
                block = []
        if block:
            yield block

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        """Yield the lines, and count them; one that is not UTF-8 is a fault."""
        for content in file:
            if not self._whole and not content.endswith(b"\n"):
                self.unfinished = True
                return
            self._digest.update(content)
            self._bytes += len(content)
            self._number += 1
            try:
                line = content.decode("utf-8-sig" if self._number == 1 else "utf-8")
            except UnicodeDecodeError:
                self.fault(self._number, "is not UTF-8")
                continue
            if line.strip():
                yield line

    def fault(self, number: int, what: str) -> None:
        """Note what is wrong with a line."""
        self.faults.append(f"{self.name}:{number}: {what}")

    def _objects(self, lines: Iterator[str]) -> Iterator[Row]:
        door = Door()
        for line in lines:
            try:
                row = door.value(json.loads(line))  # half a character could not be written into any file
            except (ValueError, RecursionError) as error:
                self.fault(self._number, f"is not JSON ({error})")
                continue
            if not isinstance(row, dict):
                self.fault(self._number, "is not a JSON object")
            elif missing := [name for name in self._columns if name not in row]:
                self.fault(self._number, f"there is no key '{missing[0]}'.{did_you_mean(missing[0], row)}")
            else:
                yield row

    def _delimited(self, head: str, lines: Iterator[str]) -> Iterator[Row]:
        delimiter = max(_DELIMITERS, key=head.count)
        csv.field_size_limit(_LONGEST_FIELD)
        try:
            names = next(csv.reader([head], delimiter=delimiter))
        except csv.Error as error:
            raise DataError(
                f"{self.name}: its first line is no header of CSV ({_reason(error)}). End lines with line feeds"
            ) from None
        for name in self._columns:
            if name not in names:
                raise DataError(
                    f"{self.name}: there is no column '{name}'.{did_you_mean(name, names)} Columns: {', '.join(names)}"
                )
        if twice := [name for name in names if name and names.count(name) > 1]:
            raise DataError(f"{self.name}: {names.count(twice[0])} columns are called '{twice[0]}'. Rename them.")
        rows = csv.reader(lines if self._whole else self._ended(lines), delimiter=delimiter)
        while True:
            before = self._digest.copy(), self._bytes, self._number
            faults = len(self.faults)
            try:
                fields = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                self.fault(self._number, f"is no row of CSV ({_reason(error)})")
                continue
            if self._has_ended:
                if fields != [_END]:  # quotes are still open: the row waits, as a line does
                    self._digest, self._bytes, self._number = before
                    self.unfinished = True
                    del self.faults[faults:]
                return
            if len(fields) == len(names):
                yield dict(zip(names, fields, strict=True))
            else:
                self.fault(self._number, f"has {len(fields)} fields under {len(names)} columns")

    def _ended(self, lines: Iterator[str]) -> Iterator[str]:
        """Yield the lines and `_END`, which the last row takes in if it has no end."""
        yield from lines
        self._has_ended = True
        yield _END


def _reason(error: csv.Error) -> str:
    return str(error).partition(" - ")[0]  # without advice on how to open a file in Python


def _with(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines
