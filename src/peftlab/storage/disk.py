"""Files that cannot be written (full disk, read-only folder): one error message, with figures."""

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


ANOTHER_RUN_DIR = "choose another place (of a run: run_dir=)"


@contextmanager
def writing(path: Path, needed: int | None = None, elsewhere: str = ANOTHER_RUN_DIR) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into a DiskError while `path`, a file or a folder, is written.

    Args:
        path: for the message.
        needed: size in bytes; None if unknown.
        elsewhere: the alternative that the message offers.

    Raises:
        DiskError: the disk is full or read-only.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = refusal(path, error, needed)
        if reason is None:
            raise
        raise DiskError(f"{reason}, or {elsewhere}") from error


def refusal(path: Path, error: Exception, needed: int | None = None) -> str | None:
    """Return why `path` cannot be written, with the bytes needed and free, and the remedy; None for other errors.

    Args:
        path: the file or folder being written.
        error: an OSError, or a library's error for one.
        needed: size in bytes; None if unknown.
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
    """Return the errno of an error; safetensors has it only in its message."""
    if isinstance(error, OSError):
        return error.errno
    match = re.search(r"\(os error (\d+)\)", str(error))
    return int(match[1]) if match else None
