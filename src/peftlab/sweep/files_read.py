"""Which files a process reads, and in which state: what it makes of them holds as long as they stay the same."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from peftlab.seams.python import calling_file

State = tuple[int, int, int]
"""Of a file or folder: its size, the time of its last change in nanoseconds, and its number on the disk."""

_SURE_AFTER = 2.0
"""Seconds after a change: some disks tell times apart only that coarsely, and another change would not show."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class FilesRead:
    """The files that Python code opens to read, and the folders that it lists, from now until the process ends.

    Python reports both to audit hooks. What a library reads by itself does not show, but every file that decides a
    run's identity is read by Python, for its digest.

    Args:
        apart_from: folders whose files do not count, such as those of the code.
    """

    def __init__(self, apart_from: Iterable[str | os.PathLike[str]] = ()) -> None:
        self._apart_from = tuple(os.path.join(os.path.abspath(folder), "") for folder in apart_from)
        self._states: dict[str, State | None] = {}
        sys.addaudithook(self._note)

    def states(self) -> dict[str, State] | None:
        """Return the state of each file when it was first opened; None if one had just been changed, or was gone."""
        states = {path: state for path, state in self._states.items() if state is not None}
        return states if len(states) == len(self._states) else None

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if flags & _WRITES or set(mode or "") & set("wax+"):
                return
        elif event in ("os.listdir", "os.scandir") and not _by_an_import():
            path = arguments[0] or "."
        else:
            return
        with contextlib.suppress(TypeError, ValueError):  # the number of an open file; a name that no file has
            name = os.path.abspath(os.fsdecode(path))
            if name not in self._states and not f"{name}/".startswith(self._apart_from):
                self._add(name)

    def _add(self, name: str) -> None:
        try:
            state = _state(name)
        except OSError:  # no regular file
            return
        self._states[name] = state if time.time() - state[1] / 1e9 > _SURE_AFTER else None


def _by_an_import() -> bool:
    """Return whether the caller's caller searches for modules or packages, in the current folder among others."""
    caller = calling_file(2)
    return any(name in caller for name in ("importlib", "pkgutil", "pkg_resources"))


def are_unchanged(states: Mapping[str, Any]) -> bool:
    """Return whether every file is in the same state as in `states`."""
    try:
        return all(_state(path) == tuple(state) for path, state in states.items())
    except OSError:
        return False


def _state(path: str) -> State:
    """Return the state of a file or folder, zeros where there is none; raises OSError for what is neither."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0, 0, 0
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise OSError(f"{path}: no regular file")
    return found.st_size, found.st_mtime_ns, found.st_ino
