"""Writing a file so that it is whole at any time: whatever happens meanwhile, it is the old one or the new one."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peftlab.disk import ANOTHER_RUN_DIR, writing


@contextmanager
def replacing(path: Path, needed: int | None = None, elsewhere: str = ANOTHER_RUN_DIR) -> Iterator[Path]:
    """Yield a file to be written in the place of `path`, in the same folder, and put it there when the block is done.

    By then it is on the disk, and so is its name when this returns. If the block fails, `path` is left as it was. Of
    several that write `path` at once, on whatever machines, each has a file of its own, and the last one's stays.

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
            yield temporary
            synchronise(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    synchronise(path.parent)


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
            shutil.rmtree(file) if file.is_dir() else file.unlink()
