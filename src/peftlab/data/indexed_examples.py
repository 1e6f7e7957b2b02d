"""The examples of a large file: an index of the bytes where they begin, and examples that are read when needed."""

from __future__ import annotations

import codecs
import hashlib
import os
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from peftlab.data.text_files import MARKS, SAVE, decoded, lines_of, opened
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
    """With its end."""

    @property
    def content(self) -> str:
        """The text without its end."""
        return self.text.removesuffix("\n").removesuffix("\r")


class LinesOfFile:
    """Iterates once over the lines of a text file, as `read_text` and `lines_of` return them, in constant memory.

    A file in UTF-16 or UTF-32, or with carriage returns as its only line ends, is read as a whole.

    Args:
        path: the file.
        advice: what to do about another encoding, for the message.

    Raises:
        DataError: the file cannot be read, or a line is not UTF-8; the message names file and line.
    """

    def __init__(self, path: Path, advice: str = SAVE) -> None:
        self.path, self._advice = path, advice
        self._sha256 = hashlib.sha256()
        with opened(path) as file:
            self.state = state_of(file.fileno())
            """That of the file when it was opened."""
            first = file.readline()
        self.is_divided = _is_divided(first)
        """Whether its examples can be indexed."""
        self.is_large = self.state[0] > HELD and self.is_divided
        """Whether they should be."""

    @property
    def sha256(self) -> str:
        """The digest of the lines so far, with their ends; at the end of the iteration, that of the file."""
        return self._sha256.hexdigest()

    def __iter__(self) -> Iterator[Line]:
        with opened(self.path) as file:
            line = file.readline()
            if not _is_divided(line):
                content = line + file.read()
                self._sha256.update(content)
                for number, text in enumerate(lines_of(decoded(content, str(self.path), advice=self._advice)), start=1):
                    yield Line(number, -1, text)
                return
            number, offset = 1, 0
            while line:
                self._sha256.update(line)
                mark = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
                text = decoded(line, str(self.path), advice=self._advice, first_line=number)
                yield Line(number, offset + mark, text)
                offset += len(line)
                number, line = number + 1, file.readline()


def _is_divided(first: bytes) -> bool:
    """Return whether line feeds divide a file whose bytes up to the first of them are `first`."""
    return first.endswith(b"\n") and not first.startswith(tuple(MARKS))


class Index(Generic[T]):
    """The places of the examples of a file, as it is read for the first time.

    Args:
        path: the file.
        parse: makes an example of the bytes from its beginning to that of the next one, its position among the
            examples, from 0, and the number of its line.
    """

    def __init__(self, path: Path, parse: Callable[[bytes, int, int], T]) -> None:
        self.path, self.parse = path, parse
        self._offsets, self._numbers = array("q"), array("q")

    def __len__(self) -> int:
        """Return the number of examples so far."""
        return len(self._offsets)

    def add(self, offset: int, number: int) -> None:
        """Note that the next example begins at a byte of the file, in the line of a number, from 1."""
        self._offsets.append(offset)
        self._numbers.append(number)

    def examples(self, state: State, sha256: str | None, counts: Mapping[str, int] | None = None) -> IndexedExamples[T]:
        """Return the examples.

        Args:
            state: that of the file when it was opened, see `state_of`.
            sha256: the digest of the file; None if it is a copy of the user's file.
            counts: oddities of the file, for the run record.
        """
        return IndexedExamples(self, np.asarray(self._offsets), np.asarray(self._numbers), state, sha256, counts or {})


class IndexedExamples(View[T]):
    """The examples of a file, see `Index.examples`; each access reads and parses one.

    Raises:
        DataError: at an access, the file has changed since it was indexed.
    """

    def __init__(
        self,
        index: Index[T],
        offsets: np.ndarray,
        numbers: np.ndarray,
        state: State,
        sha256: str | None,
        counts: Mapping[str, int],
    ) -> None:
        self.path, self.sha256 = index.path, sha256
        self.counts = {name: count for name, count in counts.items() if count}
        self._parse, self._offsets, self._numbers, self._state = index.parse, offsets, numbers, state
        self._descriptor: int | None = None

    def __len__(self) -> int:
        return len(self._offsets)

    def at(self, place: int) -> T:
        """Return the example at `place`, from 0."""
        begin = int(self._offsets[place])
        end = int(self._offsets[place + 1]) if place + 1 < len(self._offsets) else self._state[0]
        return self._parse(self._read(begin, end), place, int(self._numbers[place]))

    def _read(self, begin: int, end: int) -> bytes:
        """Return the bytes of the file from `begin` to `end`; the position is an argument, as processes share it."""
        if self._descriptor is None:
            with opened(self.path) as file:
                self._descriptor = os.dup(file.fileno())
        if state_of(self._descriptor) != self._state:
            raise DataError(f"{self.path}: the file has changed since this run began to read it. Start the run again.")
        return os.pread(self._descriptor, end - begin, begin)

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the open file, which another process opens by itself."""
        return self.__dict__ | {"_descriptor": None}

    def __del__(self) -> None:
        """Close the file."""
        if (descriptor := self.__dict__.get("_descriptor")) is not None:
            os.close(descriptor)


State = tuple[int, int, int]
"""What tells a changed file, or another one: size, time of the last change, and number."""


def state_of(descriptor: int) -> State:
    """Return the state of an open file."""
    stat = os.fstat(descriptor)
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
