"""Digests of files, folders and JSON values. No torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from peftlab.errors import SourceError
from peftlab.storage.entries import oddity


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file as hex digits, read in chunks.

    Raises SourceError if it is not a regular file or cannot be read.
    """
    if odd := oddity(Path(path)):
        raise SourceError(f"'{path}' is {odd}. Name a file.")
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"'{path}' cannot be read ({error.strerror}). Name a file that can be.") from error


def folder_sha256(folder: Path, digests: Mapping[str, str] | None = None) -> str:
    """Return the sha256 over the names and digests of all files below `folder` that are not hidden.

    Links are followed, as by whatever reads the folder, except to a folder that they lie in.

    Args:
        folder: the folder.
        digests: those of files that need not be read again, by their paths below it.

    Raises:
        SourceError: a folder cannot be read.
    """
    known = digests or {}
    whole = hashlib.sha256()
    for name in sorted(path.relative_to(folder).as_posix() for path in files_below(folder)):
        whole.update(f"{known.get(name) or file_sha256(folder / name)}  {name}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def files_below(folder: Path, within: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the files in `folder` and in those below it that are not hidden, in any order.

    Links are followed, except to a folder that they lie in.

    Args:
        folder: the folder.
        within: the real paths of the folders around it that have been walked through.

    Raises:
        SourceError: a folder cannot be read.
    """
    within = (*within, os.path.realpath(folder))
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
    except OSError as error:
        raise SourceError(
            f"'{error.filename}' cannot be read ({error.strerror}). Name a folder that can be."
        ) from error
    for entry in entries:
        if entry.is_file():
            yield Path(entry.path)
        elif entry.is_dir() and os.path.realpath(entry.path) not in within:
            yield from files_below(Path(entry.path), within)


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of `value`: sorted keys, no spaces, floats as `repr` writes them.

    Raises ValueError for nan and infinities, which JSON lacks, and TypeError for a value that is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(value: Any) -> str:
    """Return the sha256 of the canonical JSON of `value`, as hex digits; raises what `canonical_json` raises."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
