"""Locks on folders: who writes a run or a sweep, for as long as that process lives."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from pathlib import Path

from peftlab.errors import ConfigError

log = logging.getLogger("peftlab")

LOCK = ".lock"
"""Is locked by the process that writes the folder."""


def lock(path: Path, what: str = "run") -> int:
    """Lock the folder for this process, until it ends or closes the descriptor that is returned.

    The lock is one of POSIX: it ends with the process, even where children of it, such as loader workers, live on.

    Args:
        path: the folder.
        what: is written there, for messages.

    Raises:
        ConfigError: another process has locked it.
    """
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


def is_locked(path: Path) -> bool:
    """Return whether another process writes the folder; never ask of one that this process has locked."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN)
    finally:
        os.close(descriptor)  # and with it the lock, where it was free
    return False
