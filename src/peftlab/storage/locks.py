"""Locks on folders: one process at a time writes a run or a sweep, and holds the lock while it lives."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peftlab.errors import ConfigError
from peftlab.storage.entries import taken_by

log = logging.getLogger("peftlab")

LOCK = ".lock"
"""The file that the process writing the folder locks."""


def lock(path: Path, what: str = "run", file: str = LOCK, wait: bool = False) -> int:
    """Lock the folder for this process until it exits or closes the returned descriptor.

    The lock is a POSIX lock: it ends with the process even if children, such as loader workers, live on.

    Args:
        path: the folder.
        what: the content of the folder, for messages.
        file: the name of the lock file.
        wait: whether to wait until another process releases its lock.

    Raises:
        ConfigError: another process holds the lock, or the lock file is no plain file.
    """
    if odd := taken_by(path / file, stat.S_IFREG):
        raise ConfigError(f"{path / file} is {odd}, where a lock is kept: remove it")
    descriptor = os.open(path / file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            log.warning(
                "%s: this file system has no locks (%s): never start the same %s twice", path, error.strerror, what
            )
            return descriptor
        holder = os.read(descriptor, 1000).decode(errors="replace")
        os.close(descriptor)
        raise ConfigError(
            f"{path}: {holder or 'another process'} is writing this {what}; wait for its end, or stop it: "
            "the same command then goes on"
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return descriptor


@contextmanager
def alone(path: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` in the folder `path`: other processes that ask for it wait."""
    file = path / f".{name}.lock"
    while True:
        descriptor = lock(path, file=file.name, wait=True)
        if _is_at(file, descriptor):
            break
        os.close(descriptor)  # the last holder has removed the file
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _is_at(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def is_locked(path: Path) -> bool:
    """Return whether another process holds the lock; never call this for a folder that this process has locked."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN)
    finally:
        os.close(descriptor)  # also releases the lock, if it was free
    return False
