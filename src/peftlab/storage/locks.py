"""Locks on folders: who writes a run or a sweep, for as long as that process lives."""

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
"""Is locked by the process that writes the folder."""


def lock(path: Path, what: str = "run", file: str = LOCK, wait: bool = False) -> int:
    """Lock the folder for this process, until it ends or closes the descriptor that is returned.

    The lock is one of POSIX: it ends with the process, even where children of it, such as loader workers, live on.

    Args:
        path: the folder.
        what: is written there, for messages.
        file: the name of what is locked.
        wait: for another process to end its lock.

    Raises:
        ConfigError: another process has locked it, or a link, say, stands in its place.
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
    """Within, no other process is, of those that come to `path` for the same `name`; they wait for each other."""
    file = path / f".{name}.lock"
    while True:
        descriptor = lock(path, file=file.name, wait=True)
        if _is_at(file, descriptor):
            break
        os.close(descriptor)  # of a file that its last holder has removed
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
    """Return whether another process writes the folder; never ask of one that this process has locked."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN)
    finally:
        os.close(descriptor)  # and with it the lock, where it was free
    return False
