"""What converters share in reading and writing files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from peftlab.errors import SourceError


@contextmanager
def mapped(path: Path, name: str, remedy: str) -> Iterator[mmap]:
    """Map the file at `path` into memory, and take whatever is odd in reading it for a file of another format.

    Args:
        path: the file.
        name: the name of the format.
        remedy: a sentence that says which files have this format.

    Raises:
        SourceError: it is empty, or reading it in this context raises an error of lookup, value, type or `struct`.
    """
    trouble = f"'{path.name}' is not a model in the format {name}"
    if not path.stat().st_size:
        raise SourceError(f"{trouble}: it is empty. {remedy}")
    with path.open("rb") as file:
        data = mmap(file.fileno(), 0, access=ACCESS_READ)
    try:
        yield data
    except (struct.error, LookupError, ValueError, TypeError, OverflowError) as error:
        told = {KeyError: f"it lacks {error}", TypeError: f"it holds a value of an unexpected type ({error})"}
        reason = told.get(type(error), error)
        raise SourceError(f"{trouble}: {reason}. {remedy}") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` so that equal contents give equal bytes, on every system."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
