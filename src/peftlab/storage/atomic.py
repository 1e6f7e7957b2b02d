"""Atomic file writes: at any moment, a file is either the whole old one or the whole new one."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from peftlab.storage.disk import ANOTHER_RUN_DIR, writing
from peftlab.storage.entries import is_plain_file, is_plain_folder

DAY = 86400.0
"""Seconds without a change after which a temporary file counts as abandoned."""

DIGITS = 30
"""The number of a temporary file, of 128 bits, has at least so many; one in three billion has fewer."""


@contextmanager
def replacing(path: Path, needed: int | None = None, elsewhere: str = ANOTHER_RUN_DIR) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path`, and rename it to `path` when the block ends.

    The content is synced to disk before the rename, the name before this returns. If the block fails, `path` is
    unchanged. Concurrent writers, on any machines, each have a temporary file of their own; the last rename wins.
    Temporary files that killed processes left in the folder are removed, see `remove_abandoned`.

    Args:
        path: the file to replace.
        needed: size in bytes for the error message; None if unknown.
        elsewhere: the alternative that the error message offers.

    Raises:
        DiskError: the file cannot be written.
    """
    temporary = temporary_for(path)
    try:
        with writing(path, needed, elsewhere):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(path.parent)
            yield temporary
            synchronise(temporary)
            temporary.replace(path)
    finally:
        with suppress(NotADirectoryError):  # a file is in the place of its folder, which the block has said
            temporary.unlink(missing_ok=True)
    synchronise(path.parent)


def temporary_for(path: Path) -> Path:
    """Return the name of a temporary file in the folder of `path`, which no other process has."""
    return path.with_name(f".{path.name}.{uuid.uuid4().int}")


def append(path: Path, text: str, whole: Callable[[], str]) -> None:
    """Append `text` to the file `path`, or write `whole()` there if it is missing or no plain file.

    Raises:
        DiskError: the file cannot be written.
    """
    if is_plain_file(path):
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        with writing(path), open(os.open(path, flags), "a", encoding="utf-8", newline="") as file:
            file.write(text)
    else:
        with replacing(path) as temporary:
            temporary.write_text(whole(), encoding="utf-8", newline="")


def digest_file(path: Path) -> Path:
    """Return the file next to `path` that holds its digest, in the format of sha256sum."""
    return path.with_name(f"{path.name}.sha256")


def synchronise(path: Path) -> None:
    """Sync the content of a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name != "posix":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_torn(file: Path, name: str = "*") -> bool:
    """Return whether `file` is the temporary file of an unfinished write to the file called `name`.

    The length of its number tells it from a user's own, such as ``.env.1``, and the folder ``.venv-3.12``.
    """
    number = file.suffix.removeprefix(".")
    return file.match(f".{name}.*") and number.isdigit() and len(number) >= DIGITS


def remove_torn(folder: Path) -> None:
    """Remove the torn files from `folder`; no process may be writing there."""
    for file in folder.glob("*"):
        if is_torn(file):
            remove(file)


def remove_abandoned(folder: Path, is_left: Callable[[Path], bool] = is_torn) -> None:
    """Remove the hidden entries of `folder` for which `is_left` holds and that have not changed for a `DAY`.

    Age decides because the folder may be shared with other machines, whose processes cannot be checked.
    """
    for file in folder.glob(".*"):
        with suppress(OSError):  # renamed or removed by another process meanwhile, or owned by another user
            if is_left(file) and time.time() - _changed(file) > DAY:
                remove(file)


def _changed(path: Path) -> float:
    """Return the time of the last change to `path` or anything in it."""
    inner = path.rglob("*") if is_plain_folder(path) else ()
    return max(file.lstat().st_mtime for file in (path, *inner))


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    shutil.rmtree(path) if is_plain_folder(path) else path.unlink(missing_ok=True)
