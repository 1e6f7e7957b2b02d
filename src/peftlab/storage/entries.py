"""What stands in a run folder under a name: the run's own file or folder, or something that leads elsewhere.

A run folder may come from anybody, and may be reached through a link itself. What lies in it is only read where no link
leads out of it, and only written where no link, pipe or device has taken the place of the run's own.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePosixPath

from peftlab.errors import ConfigError, DiskError, UserError

KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What stands under a name, by its type."""

FILES = ("record.json", "config.yaml", "packages.txt", "trail.jsonl", "log.txt", "metrics.csv", ".lock")
FOLDERS = ("checkpoints", "predictions", "tables", "adapter", "tracking")
"""What a run writes in its folder. Other entries are the user's."""

_KERNEL = "/proc"
"""Where files look regular that never end."""

_TRACKING = "tracking"
"""Holds what trackers keep for themselves, links among it; nobody else reads it."""

_FILE_NAMES = (".jsonl", ".json", ".safetensors", ".sha256", ".csv")
"""How the files in these folders end."""


def is_plain_file(path: Path) -> bool:
    """Return whether `path` itself, not what it may be a link to, is a file."""
    return _type(path) == stat.S_IFREG


def is_plain_folder(path: Path) -> bool:
    """Return whether `path` itself, not what it may be a link to, is a folder."""
    return _type(path) == stat.S_IFDIR


def taken_by(path: Path, *expected: int) -> str | None:
    """Return what `path` is; None where there is nothing, or one of the `expected` types (``stat.S_IFREG``, ...)."""
    kind = _type(path)
    if kind is None or kind in expected:
        return None
    return f"a link to '{path.readlink()}'" if kind == stat.S_IFLNK else KINDS[kind]


def check_own(folder: Path) -> None:
    """Check that a run can write all that it keeps in `folder`, and that nothing of it lands elsewhere.

    Raises:
        ConfigError: something else stands under the name of one of its files or folders.
    """
    for name in FILES:
        _check(folder / name, stat.S_IFREG)
    for name in FOLDERS:
        _check(folder / name, stat.S_IFDIR)
        for entry in sorted((folder / name).rglob("*")) if name != _TRACKING else ():
            _check(entry, *((stat.S_IFREG,) if entry.suffix in _FILE_NAMES else (stat.S_IFREG, stat.S_IFDIR)))


def check_readable(folder: Path) -> None:
    """Check that what a run keeps in `folder` can be read, and that all of it lies there.

    Raises:
        UserError: see `inside`.
    """
    for name in (*FILES, *FOLDERS):
        for entry in (folder / name, *(folder / name).rglob("*")) if name != _TRACKING else ():
            inside(folder, entry)


def own_folder(path: Path) -> Path:
    """Make the folder `path` of a run where there is none, and return it.

    Raises:
        DiskError: a link, say, has taken its place while the run was under way.
    """
    if odd := taken_by(path, stat.S_IFDIR):
        raise DiskError(f"{path}: has become {odd}: nothing is written through it. Put a folder in its place")
    path.mkdir(parents=True, exist_ok=True)
    return path


def inside(folder: Path, path: Path) -> Path:
    """Return `path`, which is to be read as a part of the run in `folder`.

    Raises:
        UserError: a link leads out of the folder, or to read what is there may never end.
    """
    root, real = os.path.realpath(folder), os.path.realpath(path)
    if os.path.commonpath([root, real]) != root:
        raise UserError(f"'{path}' leads out of the run folder, to '{real}': it is not read. Put a copy in its place")
    if odd := taken_by(Path(real), stat.S_IFREG, stat.S_IFDIR):
        raise UserError(f"'{path}' is {odd}, and no file of a run. Remove it")
    return path


def is_inner(path: str, portable: bool = False) -> bool:
    """Return whether a relative `path`, with forward slashes, stays inside the folder that it starts from.

    Args:
        path: as text; nothing need be there.
        portable: whether it is to do so on every system: no backslashes, drives or streams.
    """
    plain = PurePosixPath(path)
    if "\0" in path or plain.is_absolute() or ".." in plain.parts:
        return False
    return not (portable and re.search(r"[\\:]", path))


def may_lead_out(name: str) -> bool:
    """Return whether a text that is to be a name within a folder may be taken for a place elsewhere, as an address."""
    if name.startswith("~") or "::" in name or re.match(r"\w[\w+.-]*:[/\\]", name):
        return True
    return not is_inner(name.replace("\\", "/"))


def _check(path: Path, *expected: int) -> None:
    if odd := taken_by(path, *expected):
        own = KINDS[expected[0]]
        raise ConfigError(
            f"{path} is {odd}, where the run keeps {own}: it does not go on. Put {own} in its place, or remove it"
        )


def _type(path: Path) -> int | None:
    """Return the type of `path` itself; None where there is nothing, or nothing that can be looked at."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except (OSError, ValueError):
        return None


def oddity(path: Path) -> str | None:
    """Return what `path` is where it is there and neither a file nor a folder: to read such a thing may never end."""
    try:
        mode = path.stat().st_mode
    except (PermissionError, ValueError):  # whoever opens it tells
        return None
    except OSError:
        return f"a link to '{path.readlink()}', where nothing is" if path.is_symlink() else None
    if stat.S_ISREG(mode):
        return "a file of the kernel's" if path.resolve().is_relative_to(_KERNEL) else None
    return None if stat.S_ISDIR(mode) else KINDS[stat.S_IFMT(mode)]
