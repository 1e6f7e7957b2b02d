"""Writing a file so that it is whole at any time: whatever happens meanwhile, it is the old one or the new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peftlab.disk import writing


@contextmanager
def replacing(path: Path, needed: int | None = None) -> Iterator[Path]:
    """Yield a file to be written in the place of `path`, in the same folder, and put it there when the block is done.

    By then it is on the disk, and so is its name when this returns. If the block fails, `path` is left as it was.

    Args:
        path: of the file.
        needed: bytes, for the message where the disk does not take them; None where it is not known.

    Raises:
        DiskError: the disk does not take it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with writing(path, needed):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_torn(folder: Path) -> None:
    """Remove from `folder` what a process that was killed had not put in place; nobody may be writing there."""
    for file in folder.glob(".*"):
        if file.suffix.removeprefix(".").isdigit():
            file.unlink()
