"""Texts and objects for a model to answer, from files and streams: an invalid line gives an error in its place."""

from __future__ import annotations

import io
import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from peftlab.data.json_objects import read_object
from peftlab.data.text_files import lines_from
from peftlab.errors import DataError
from peftlab.storage.entries import oddity


def source_of(name: str) -> str:
    """Return the name of the file `name` in messages."""
    return "stdin" if name == "-" else name


def lines(name: str) -> Iterator[str | DataError]:
    """Yield the lines of the file `name`, or of stdin for ``-``; for a line that is not text, the error.

    Raises:
        DataError: the file cannot be read, or none of it is text.
    """
    try:
        with _opened(name) as stream:
            reading = lines_from(stream, source_of(name))
            while True:
                try:
                    yield next(reading)
                except DataError as error:
                    yield error
                except StopIteration:
                    return
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}). Name a file that can be.") from error


def objects(name: str) -> Iterator[dict[str, Any] | DataError]:
    """Yield the JSON object in each line of a file, see `lines`; for an invalid line, the error, which names it."""
    reading = _Ahead(lines(name))
    for number, line in enumerate(reading, start=1):
        if isinstance(line, DataError):
            yield line
            continue
        try:
            yield read_object(line, f"{source_of(name)}:{number}", 'such as {"text": ...}', reading.following())
        except DataError as error:
            yield error


class _Ahead(Iterator[str | DataError]):
    """An iterator over lines with lookahead."""

    def __init__(self, reading: Iterator[str | DataError]) -> None:
        self._reading = reading
        self._seen: deque[str | DataError] = deque()
        self._has_looked = False

    def __next__(self) -> str | DataError:
        return self._seen.popleft() if self._seen else next(self._reading)

    def following(self) -> Iterator[str]:
        """Yield the lines after the present one, up to one that is not text; none if this was done before: a file whose
        lines all break off would be read to its end for each."""
        if self._has_looked:
            return
        self._has_looked = True
        place = 0
        while True:
            if place == len(self._seen):
                try:
                    self._seen.append(next(self._reading))
                except StopIteration:
                    return
            line = self._seen[place]
            if isinstance(line, DataError):
                return
            yield line
            place += 1


def _opened(name: str) -> Any:
    """Return the byte stream of a file as a context manager; stdin is read as bytes whatever the locale."""
    if name == "-":
        stdin: BinaryIO = getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())
        return nullcontext(stdin)
    is_handed_over = re.fullmatch(r"/dev/(stdin|fd/\d+)", name)  # a pipe of the shell, as in <(command)
    if not is_handed_over and (odd := oddity(Path(name))):
        raise DataError(f"{name}: is {odd}. Name a file, or - for stdin.")
    return Path(name).open("rb")
