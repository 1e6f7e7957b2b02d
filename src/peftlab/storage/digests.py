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
        SourceError: a folder or a file cannot be read.
    """
    known = digests or {}
    whole = hashlib.sha256()
    try:
        files = sorted(path.relative_to(folder).as_posix() for path in _files_below(folder))
    except OSError as error:
        raise SourceError(
            f"'{error.filename}' cannot be read ({error.strerror}). Name a folder that can be."
        ) from error
    for name in files:
        whole.update(f"{known.get(name) or file_sha256(folder / name)}  {name}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _files_below(folder: Path, within: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the files below `folder` that are not hidden; `within` are the real paths of the folders around it."""
    within = (*within, os.path.realpath(folder))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_file():
                yield Path(entry.path)
            elif entry.is_dir() and os.path.realpath(entry.path) not in within:
                yield from _files_below(Path(entry.path), within)


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of `value`: sorted keys, no spaces, floats as `repr` writes them.

    Raises ValueError for nan and infinities, which JSON lacks, and TypeError for a value that is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(value: Any) -> str:
    """Return the sha256 of the canonical JSON of `value`, as hex digits; raises what `canonical_json` raises."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
