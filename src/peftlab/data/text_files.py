"""Text files of the user's, read whole; what is wrong with one is told with file and line."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from peftlab.errors import DataError, did_you_mean


def _known(encoding: str) -> str:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(f"'{encoding}' is no encoding that Python knows, such as utf-8, latin-1, cp1252") from None
    return encoding


Encoding = Annotated[str, AfterValidator(_known)]
"""The name of an encoding."""


def read_text(path: Path, *encodings: str, advice: str = "Save the file as UTF-8") -> str:
    """Return the text of a file without its byte order mark, in the first of `encodings` that fits; by default UTF-8.

    Raises:
        DataError: there is no such file, it cannot be read, or no encoding fits; says at which line of the first.
    """
    first, *others = encodings or ("utf-8",)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.{_suggestion(path.parent, path.name)}") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, expected a file.{_suggestion(path)}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Name a file that can be.") from None
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode(first)
    except UnicodeDecodeError as error:
        for encoding in others:
            try:
                return content.decode(encoding)
            except UnicodeDecodeError:
                continue
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: byte 0x{content[error.start]:02x} is not {_shown(first)}. {advice}.") from None


def _shown(encoding: str) -> str:
    return "UTF-8" if codecs.lookup(encoding).name == "utf-8" else encoding


def _suggestion(folder: Path, name: str = "") -> str:
    """Return which file of `folder` may be meant by `name`, or which there are."""
    if not folder.is_dir():
        return f" Nor is there a folder {folder}."
    names = sorted(each.name for each in folder.iterdir() if each.is_file())
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return did_you_mean(name, names) or f" Files in {folder}: {listed or 'none'}."
