"""Reads the user's text files and streams; errors name the file and the line."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import AfterValidator

from peftlab.errors import DataError, did_you_mean
from peftlab.storage.entries import oddity

MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, which override the configured encoding."""

SAVE = "Save the file as UTF-8"
"""What to do about a file in another encoding."""


def _checked(encoding: str) -> str:
    try:
        b"text".decode(encoding)
    except UnicodeDecodeError:
        pass  # valid, but of another code unit width
    except (LookupError, ValueError):  # unknown, or not a text encoding
        raise ValueError(f"'{encoding}' is no encoding that Python knows, such as utf-8, latin-1, cp1252") from None
    return encoding


Encoding = Annotated[str, AfterValidator(_checked)]
"""The name of an encoding."""


def is_utf_8(encoding: str) -> bool:
    """Return whether `encoding` is a name of UTF-8."""
    return codecs.lookup(encoding).name == "utf-8"


def read_text(path: Path, *encodings: str, advice: str = SAVE) -> str:
    """Return the text of a file without its byte order mark, in the first of `encodings` that fits, by default UTF-8.

    A byte order mark of UTF-16 or UTF-32 overrides `encodings`.

    Raises:
        DataError: the file does not exist, is not a regular file, is unreadable, or fits no encoding; then the message
            names the line at which the first one fails.
    """
    with opened(path) as file:
        content = file.read()
    return decoded(content, str(path), *encodings, advice=advice)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes.

    Raises:
        DataError: the file does not exist, is not a regular file, or is unreadable.
    """
    if odd := oddity(path):
        raise DataError(f"{path}: is {odd}, expected a file.")
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.{_suggestion(path.parent, path.name)}") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, expected a file.{_suggestion(path)}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Name a file that can be.") from None


def lines_of(text: str) -> list[str]:
    """Return the lines of a text: a line feed ends a line, with or without a carriage return before it.

    In a text without line feeds, carriage returns end lines, as on old Macintoshes.
    """
    if "\r" in text and "\n" not in text:
        text = text.replace("\r", "\n")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def lines_from(stream: BinaryIO, name: str) -> Iterator[str]:
    """Return the lines of a stream as they arrive, split and decoded as by `read_text` and `lines_of`.

    Raises:
        DataError: a line is not UTF-8; the message begins with `name` and the line. If the stream has several lines,
            reading can continue with the next one.
    """
    first = stream.readline()
    if not first.endswith(b"\n") or first.startswith(tuple(MARKS)):
        return iter(lines_of(decoded(first + stream.read(), name)))

    def of_line(numbered: tuple[int, bytes]) -> str:
        number, line = numbered
        return decoded(line, name, first_line=number).removesuffix("\n").removesuffix("\r")

    return map(of_line, enumerate(itertools.chain([first], stream), start=1))


def decoded(content: bytes, name: str, *encodings: str, advice: str = SAVE, first_line: int = 1) -> str:
    """Return the text of `content` as `read_text` does.

    Args:
        content: the bytes of a file, or of lines from `first_line` on.
        name: the file, at the start of messages.
        encodings: the encodings to try, by default UTF-8.
        advice: what to do about another encoding.
        first_line: the number of the first line, from 1.

    Raises:
        DataError: it fits no encoding.
    """
    mark = next((mark for mark in MARKS if first_line == 1 and content.startswith(mark)), None)
    if mark is not None:
        encodings = (MARKS[mark],)
    elif first_line == 1:
        content = content.removeprefix(codecs.BOM_UTF8)
    first, *others = encodings or ("utf-8",)
    try:
        text = content.decode(first)
    except UnicodeError as error:
        for encoding in others:
            try:
                return content.decode(encoding)
            except UnicodeError:
                continue
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = first_line + len(lines_of(content[:start].decode(first, errors="ignore") + ".")) - 1
        raise DataError(f"{name}:{line}: byte 0x{content[start]:02x} is not {_shown(first)}. {advice}.") from None
    if first_line == 1 and text.count("\0") * 5 > len(text) * 2:
        raise DataError(f"{name}: is UTF-16 without a byte order mark, by its NUL bytes. {advice}.")
    return text


def _shown(encoding: str) -> str:
    name = codecs.lookup(encoding).name
    return name.upper() if name.startswith("utf-") else encoding


def _suggestion(folder: Path, name: str = "") -> str:
    """Return the file of `folder` that `name` may mean, or else the list of its files."""
    if not folder.is_dir():
        return f" Its folder {folder} does not exist."
    names = sorted(each.name for each in folder.iterdir() if each.is_file())
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return did_you_mean(name, names) or f" Files in {folder}: {listed or 'none'}."
