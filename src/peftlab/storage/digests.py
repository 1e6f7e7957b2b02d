"""Digests of files, folders and JSON values. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
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

    Args:
        folder: the folder.
        digests: those of files that need not be read again, by their paths below it.
    """
    known = digests or {}
    files = sorted(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())
    whole = hashlib.sha256()
    for name in files:
        if not any(part.startswith(".") for part in PurePosixPath(name).parts):
            whole.update(f"{known.get(name) or file_sha256(folder / name)}  {name}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of `value`: sorted keys, no spaces, floats as `repr` writes them.

    Raises ValueError for nan and infinities, which JSON lacks, and TypeError for a value that is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(value: Any) -> str:
    """Return the sha256 of the canonical JSON of `value`, as hex digits; raises what `canonical_json` raises."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
