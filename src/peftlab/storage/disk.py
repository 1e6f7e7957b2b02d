"""Files that cannot be written: a full disk, a folder that may only be read; told in one message, with figures."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from peftlab.errors import DiskError

_FULL = {errno.ENOSPC: "no space is left on the disk", errno.EDQUOT: "the quota of the disk is used up"}
_FORBIDDEN = {
    errno.EROFS: "the file system can only be read",
    errno.EACCES: "there is no permission",
    errno.EPERM: "there is no permission",
}


ANOTHER_RUN_DIR = "choose another place with run_dir="


@contextmanager
def writing(path: Path, needed: int | None = None, elsewhere: str = ANOTHER_RUN_DIR) -> Iterator[None]:
    """Around the writing of `path`, a file or a folder.

    Args:
        path: for the message.
        needed: bytes; None where it is not known.
        elsewhere: what to do where the disk cannot be mended.

    Raises:
        DiskError: the disk does not take it.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = refusal(path, error, needed)
        if reason is None:
            raise
        raise DiskError(f"{reason}, or {elsewhere}") from error


def refusal(path: Path, error: Exception, needed: int | None = None) -> str | None:
    """Return why the disk did not take `path`, with the bytes needed and free, and how to mend it; else None.

    Args:
        path: what was being written.
        error: an OSError, or what a library made of one.
        needed: bytes; None where it is not known.
    """
    number = _number(error)
    if number in _FORBIDDEN:
        return f"{path}: cannot be written: {_FORBIDDEN[number]}. Make it writable"
    if number not in _FULL:
        return None
    folder = next(parent for parent in [path, *path.absolute().parents] if parent.is_dir())
    figures = [] if needed is None else [f"{needed:,} bytes are needed"]
    figures.append(f"{shutil.disk_usage(folder).free:,} bytes are free")
    if os.name == "posix" and os.statvfs(folder).f_favail == 0:
        figures.append("no further file can be made")
    return f"{path}: cannot be written: {_FULL[number]}; {', '.join(figures)}. Make room there"


def _number(error: BaseException) -> int | None:
    """Return the number that the operating system gave an error; safetensors has it in its message only."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
