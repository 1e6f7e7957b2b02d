"""Checks of the entries of a run folder: the run's own files and folders, or links that lead elsewhere.

A run folder may come from anybody, and may itself be reached through a link. Its entries are read only if no link leads
out of the folder, and written only if no link, pipe or device has replaced the run's own file or folder.
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
"""Names of the file types, for messages."""

FILES = ("record.json", "config.yaml", "packages.txt", "trail.jsonl", "log.txt", "metrics.csv", ".lock")
FOLDERS = ("checkpoints", "predictions", "tables", "adapter", "tracking")
"""The entries that a run writes in its folder. All others are the user's."""

_KERNEL = "/proc"
"""Some files here look regular but never end."""

_TRACKING = "tracking"
"""Holds the trackers' own files, including links; only the trackers read it."""

_FILE_NAMES = (".jsonl", ".json", ".safetensors", ".sha256", ".csv")
"""The suffixes of the files in these folders."""


def is_plain_file(path: Path) -> bool:
    """Return whether `path` itself, not the target of a link, is a file."""
    return _type(path) == stat.S_IFREG


def is_plain_folder(path: Path) -> bool:
    """Return whether `path` itself, not the target of a link, is a folder."""
    return _type(path) == stat.S_IFDIR


def taken_by(path: Path, *expected: int) -> str | None:
    """Return what `path` is; None if it is missing or of an `expected` type (``stat.S_IFREG``, ...)."""
    kind = _type(path)
    if kind is None or kind in expected:
        return None
    return f"a link to '{path.readlink()}'" if kind == stat.S_IFLNK else KINDS[kind]


def check_own(folder: Path) -> None:
    """Check that every entry that a run writes in `folder` is a plain file or folder, so that no write leaves it.

    Raises:
        ConfigError: a link, pipe or device has the name of one of its files or folders.
    """
    for name in FILES:
        _check(folder / name, stat.S_IFREG)
    for name in FOLDERS:
        _check(folder / name, stat.S_IFDIR)
        for entry in sorted((folder / name).rglob("*")) if name != _TRACKING else ():
            _check(entry, *((stat.S_IFREG,) if entry.suffix in _FILE_NAMES else (stat.S_IFREG, stat.S_IFDIR)))


def check_readable(folder: Path) -> None:
    """Check that the run's entries in `folder` can be read and lie inside it.

    Raises:
        UserError: see `inside`.
    """
    for name in (*FILES, *FOLDERS):
        if name != _TRACKING:
            inside(folder, folder / name)  # first: to list what lies behind a link may never end
            for entry in (folder / name).rglob("*"):
                inside(folder, entry)


def own_folder(path: Path) -> Path:
    """Create the folder `path` of a run if it is missing, and return it.

    Raises:
        DiskError: something else, such as a link, has replaced it during the run.
    """
    if odd := taken_by(path, stat.S_IFDIR):
        raise DiskError(f"{path}: has become {odd}: nothing is written through it. Put a folder in its place")
    path.mkdir(parents=True, exist_ok=True)
    return path


def inside(folder: Path, path: Path) -> Path:
    """Return `path` if it can be read as part of the run in `folder`.

    Raises:
        UserError: a link leads out of the folder, or reading it may never end.
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
        path: as text; it need not exist.
        portable: whether it must do so on every system: no backslashes, drives or streams.
    """
    plain = PurePosixPath(path)
    if "\0" in path or plain.is_absolute() or ".." in plain.parts:
        return False
    return not (portable and re.search(r"[\\:]", path))


def may_lead_out(name: str) -> bool:
    """Return whether `name`, meant for an entry of a folder, can be read as a location elsewhere, such as a URL."""
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
    """Return the type of `path` itself; None if it is missing or inaccessible."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except (OSError, ValueError):
        return None


def oddity(path: Path) -> str | None:
    """Return what `path` is if it exists and is neither file nor folder: reading it may never end."""
    try:
        mode = path.stat().st_mode
    except (PermissionError, ValueError):  # reported when it is opened
        return None
    except OSError:
        return f"a link to '{path.readlink()}', where nothing is" if path.is_symlink() else None
    if stat.S_ISREG(mode):
        return "a file of the kernel's" if path.resolve().is_relative_to(_KERNEL) else None
    return None if stat.S_ISDIR(mode) else KINDS[stat.S_IFMT(mode)]
