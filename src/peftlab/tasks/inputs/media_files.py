"""Examples that are files, such as pictures and recordings, and what all tasks on them share."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from peftlab.errors import DataError
from peftlab.reading.placed import Placed
from peftlab.storage.entries import oddity
from peftlab.tasks.task import Encoded, Task, spec

T = TypeVar("T")

LARGEST_FILE = 2**28
"""Bytes of the largest file that is read."""

SHOWN = 10
"""Unreadable files that a message lists."""


class UnreadableFilesError(DataError):
    """Files that cannot be read as what they should be; the message lists the first `SHOWN`."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = list(reasons)
        listed = "\n".join(f"  {reason}" for reason in self.reasons[:SHOWN])
        more = f"\n  and {len(self.reasons) - SHOWN} more" if len(self.reasons) > SHOWN else ""
        what = "1 file" if len(self.reasons) == 1 else f"{len(self.reasons)} files"
        super().__init__(f"cannot use {what}, to be mended or taken out of the data:\n{listed}{more}")


@dataclass(frozen=True, slots=True)
class MediaFile(Placed):
    """A picture or a recording by the name of its file; the file itself is read when it is encoded."""

    id: str
    """Unique within the data set, e.g. ``train:17``."""
    name: str
    """What its table, folder or request calls it."""
    sha256: str
    """The digest of the file."""
    label: str | None = None
    """Its label, or what is said in it; None without gold."""
    path: str = ""
    """The file; empty: `content` is all there is."""
    content: bytes | None = None
    """The bytes of the file where they were sent; None: they are in the file."""
    file: str = ""
    """The table that names it; empty: none does."""
    line: int | None = None
    """The line of the table, from 1."""
    group: str | None = None
    """The group it belongs to, such as a patient, a speaker or a roll of fabric."""
    weight: float | None = None
    """The factor on its weight in the loss, if it is trained on; None: it has none of its own, and counts as 1."""

    @property
    def place(self) -> str:
        """The file, and the table that names it, for messages."""
        own = self.path or self.name
        return f"{self.file}:{self.line}: {own}" if self.file else own

    def mapped(self, change: Callable[[str], str]) -> Self:
        """Return the example with `change`, which maps characters one to one, applied to its label and group."""
        label, group = (None if part is None else change(part) for part in (self.label, self.group))
        return replace(self, label=label, group=group)

    def read(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            DataError: it cannot be read, or has changed since it was listed.
        """
        content = read_file(Path(self.path)) if self.content is None else self.content
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataError("the file has changed since this run began to read it; start the run again")
        return content


def read_file(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: it is missing, empty, larger than `LARGEST_FILE`, or cannot be read; the message does not name it.
    """
    try:
        if path.is_dir() or (odd := oddity(path)):
            raise DataError(f"is {'a folder' if path.is_dir() else odd}, and no file")
        if not path.exists():
            raise DataError("there is no such file")
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise DataError(f"the file has {size:,} bytes; at most {LARGEST_FILE:,} are read")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not content:
        raise DataError("the file is empty")
    return content


def read_all(examples: Sequence[MediaFile], use: Callable[[MediaFile, bytes], T]) -> list[T]:
    """Return what `use` makes of each example and the bytes of its file.

    Raises:
        UnreadableFilesError: files cannot be read, or `use` has refused them with a DataError; all are looked at.
    """
    made, reasons = [], []
    for example in examples:
        try:
            made.append(use(example, example.read()))
        except DataError as error:
            reasons.append(f"{example.place}: {error}")
    if reasons:
        raise UnreadableFilesError(reasons)
    return made


@spec
class MediaTask(Task):
    """A task whose examples are files: each is read whole, and text options of ``data`` do not apply.

    Its encoding has the pointer ``examples``: where each example begins in another array.
    """

    limited_by: ClassVar[frozenset[str]] = frozenset()
    pointers: ClassVar[frozenset[str] | None] = frozenset({"examples"})
    host_work: ClassVar[str | None] = None
    block: ClassVar[int | None] = 64
    suffixes: ClassVar[tuple[str, ...]] = ()
    """How the names of such files end, in lower case."""

    def from_input(self, fields: Mapping[str, Any], id: str) -> Any:
        """Return the file at ``path``, or, base64-encoded, in ``content``; a plain text is a path."""
        path, content = fields.get("path", fields.get("text")), fields.get("content")
        kind: type[MediaFile] = self.example
        if isinstance(content, str):
            name = path if isinstance(path, str) else "content"
            return _sent(kind, id, name, content)
        if not isinstance(path, str):
            raise DataError("expected `path`, the name of a file, or `content`, the bytes of one in base64")
        try:
            return kind(id, path, hashlib.sha256(read_file(Path(path))).hexdigest(), path=path)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return nothing: a file is read whole."""
        return {}

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return nothing: a file is read whole."""
        return {}

    def input_of(self, example: Any) -> str:
        """Return what the file is called."""
        return str(example.name)

    def text_key(self, example: Any) -> str:
        """Return the digest of the file: equal files are duplicates."""
        return str(example.sha256)

    def title(self, example: Any) -> str:
        """Return what the file is called."""
        return str(example.name)


def uploaded(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a request's object that its answer stands beside: without the file that was sent.

    Raises:
        DataError: it names a file of this machine instead, which no caller may read.
    """
    if not isinstance(entries.get("content"), str):
        raise DataError("expected `content`, the bytes of a file in base64; files of the server are not read")
    return {key: value for key, value in entries.items() if key != "content"}


def _sent(kind: type[MediaFile], id: str, name: str, content: str) -> MediaFile:
    head, _, rest = content.partition(",")
    try:
        own = base64.b64decode(rest if head.startswith("data:") else content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError("`content` is not base64") from error
    if not 0 < len(own) <= LARGEST_FILE:
        raise DataError(f"`content` has {len(own):,} bytes; expected 1 to {LARGEST_FILE:,}")
    return kind(id, name, hashlib.sha256(own).hexdigest(), content=own)
