"""The examples of a large file with one a line: an index of byte offsets, and lines that are read when needed."""

from __future__ import annotations

import codecs
import hashlib
import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from peftlab.data.text_files import MARKS, decoded, lines_of, opened
from peftlab.data.views import View
from peftlab.errors import DataError

T = TypeVar("T")

HELD = 2**25
"""Size in bytes from which a file is indexed; the examples of a smaller one are kept in memory."""


class Line(NamedTuple):
    """A line of a text file."""

    number: int
    """From 1."""
    offset: int
    """The byte at which it begins; -1: its file has to be read as a whole."""
    text: str
    """Without its end."""


class LinesOfFile:
    """Iterates once over the lines of a text file, as `read_text` and `lines_of` return them, in constant memory.

    A file in UTF-16 or UTF-32, or with carriage returns as its only line ends, is read as a whole.

    Raises:
        DataError: the file cannot be read, or a line is not UTF-8; the message names file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = (0, 0, 0)
        """What tells whether the file has changed since, see `_state`."""
        self.is_large = False
        """Whether its examples should be indexed; known from the first line on."""
        self._sha256 = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The digest of the lines so far, with their ends; at the end of the iteration, that of the file."""
        return self._sha256.hexdigest()

    def __iter__(self) -> Iterator[Line]:
        with opened(self.path) as file:
            self.state = _state(os.fstat(file.fileno()))
            first = file.readline()
            if not first.endswith(b"\n") or first.startswith(tuple(MARKS)):
                content = first + file.read()
                self._sha256.update(content)
                for number, text in enumerate(lines_of(decoded(content, str(self.path))), start=1):
                    yield Line(number, -1, text)
                return
            self.is_large = self.state[0] > HELD
            number, offset, line = 1, 0, first
            while line:
                self._sha256.update(line)
                mark = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
                yield Line(number, offset + mark, _without_end(decoded(line, str(self.path), first_line=number)))
                offset += len(line)
                number, line = number + 1, file.readline()


class Index:
    """The places of the examples of a file, as its lines are read."""

    def __init__(self) -> None:
        self._offsets, self._numbers = array("q"), array("q")

    def add(self, line: Line) -> None:
        """Note that the next example is in `line`."""
        self._offsets.append(line.offset)
        self._numbers.append(line.number)

    def examples(self, lines: LinesOfFile, parse: Callable[[str, int, int], T]) -> IndexedLines[T]:
        """Return the examples of `lines`, which were read to their end.

        Args:
            lines: the file.
            parse: makes an example of the text of its line, its position among the examples, from 0, and its line.
        """
        return IndexedLines(lines, np.asarray(self._offsets), np.asarray(self._numbers), parse)


class IndexedLines(View[T]):
    """The examples in the lines of a file, see `Index.examples`; each access reads and parses one line.

    Raises:
        DataError: at an access, the file has changed since it was indexed.
    """

    def __init__(
        self, lines: LinesOfFile, offsets: np.ndarray, numbers: np.ndarray, parse: Callable[[str, int, int], T]
    ) -> None:
        self.path, self.sha256 = lines.path, lines.sha256
        self._state, self._offsets, self._numbers, self._parse = lines.state, offsets, numbers, parse
        self._descriptor: int | None = None

    def __len__(self) -> int:
        return len(self._offsets)

    def at(self, place: int) -> T:
        """Return the example at `place`, from 0."""
        begin = int(self._offsets[place])
        end = int(self._offsets[place + 1]) if place + 1 < len(self._offsets) else self._state[0]
        line = self._read(begin, end).partition(b"\n")[0]  # lines without an example may follow
        return self._parse(_without_end(line.decode()), place, int(self._numbers[place]))

    def _read(self, begin: int, end: int) -> bytes:
        """Return the bytes of the file from `begin` to `end`; the position is an argument, as processes share it."""
        if self._descriptor is None:
            with opened(self.path) as file:
                self._descriptor = os.dup(file.fileno())
        if _state(os.fstat(self._descriptor)) != self._state:
            raise DataError(f"{self.path}: the file has changed since this run began to read it. Start the run again.")
        return os.pread(self._descriptor, end - begin, begin)

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the open file, which another process opens by itself."""
        return self.__dict__ | {"_descriptor": None}

    def __del__(self) -> None:
        """Close the file."""
        if getattr(self, "_descriptor", None) is not None:
            os.close(self._descriptor)  # type: ignore[arg-type]  # not None, as the line above says


def _state(stat: os.stat_result) -> tuple[int, int, int]:
    """Return what tells a changed file, or another one: size, time of the last change, and number."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")
