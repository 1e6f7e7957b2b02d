"""Writing a file so that it is whole at any time: whatever happens meanwhile, it is the old one or the new one."""

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
"""Seconds without a change after which nobody is writing a file any more."""


@contextmanager
def replacing(path: Path, needed: int | None = None, elsewhere: str = ANOTHER_RUN_DIR) -> Iterator[Path]:
    """Yield a file to be written in the place of `path`, in the same folder, and put it there when the block is done.

    By then it is on the disk, and so is its name when this returns. If the block fails, `path` is left as it was. Of
    several that write `path` at once, on whatever machines, each has a file of its own, and the last one's stays. What
    processes that were killed have left in the folder goes, see `remove_abandoned`.

    Args:
        path: of the file.
        needed: bytes, for the message where the disk does not take them; None where it is not known.
        elsewhere: what to do, for that message, where the disk cannot be mended.

    Raises:
        DiskError: the disk does not take it.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().int}")
    try:
        with writing(path, needed, elsewhere):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(path.parent)
            yield temporary
            synchronise(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    synchronise(path.parent)


def append(path: Path, text: str, whole: Callable[[], str]) -> None:
    """Add `text` to the file `path`, or put `whole()` there where the file is gone or something has taken its place.

    Raises:
        DiskError: the disk does not take it.
    """
    if is_plain_file(path):
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        with writing(path), open(os.open(path, flags), "a", encoding="utf-8", newline="") as file:
            file.write(text)
    else:
        with replacing(path) as temporary:
            temporary.write_text(whole(), encoding="utf-8", newline="")


def digest_file(path: Path) -> Path:
    """Return the file beside `path` that holds its digest, in the format of the command sha256sum."""
    return path.with_name(f"{path.name}.sha256")


def synchronise(path: Path) -> None:
    """Have what is in a file, or the names in a folder, on the disk when this returns."""
    if path.is_dir() and os.name != "posix":  # a folder cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_torn(file: Path, name: str = "*") -> bool:
    """Return whether `file` is what a process that was killed had not put in the place of the file called `name`."""
    return file.match(f".{name}.*") and file.suffix.removeprefix(".").isdigit()


def remove_torn(folder: Path) -> None:
    """Remove such files from `folder`; nobody may be writing there."""
    for file in folder.glob("*"):
        if is_torn(file):
            remove(file)


def remove_abandoned(folder: Path, is_left: Callable[[Path], bool] = is_torn) -> None:
    """Remove what `is_left` by killed processes from a `folder` in which others may be writing: what is a `DAY` old.

    A process cannot be asked whether it lives: the folder may be shared with other machines.
    """
    for file in folder.glob(".*"):
        with suppress(OSError):  # it is being put in place, another process removes it, too, or it is another user's
            if is_left(file) and time.time() - _changed(file) > DAY:
                remove(file)


def _changed(path: Path) -> float:
    """Return when `path`, or anything in it, was changed last."""
    inner = path.rglob("*") if is_plain_folder(path) else ()
    return max(file.lstat().st_mtime for file in (path, *inner))


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    shutil.rmtree(path) if is_plain_folder(path) else path.unlink(missing_ok=True)
