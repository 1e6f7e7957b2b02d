"""Archives read back: verified member by member, or unpacked into a temporary folder. No torch.

An archive may come from anybody. A member is believed only if the manifest lists it, with these bytes and once; every
other one is named and left out. Nothing is written outside the temporary folder, no link is made, and what the whole
archive may take, unpacked, is in proportion to its own size.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Any

from peftlab.errors import UserError
from peftlab.reading import json_form
from peftlab.reading.json_form import parsed
from peftlab.reading.unicode_text import has_controls
from peftlab.report.archive import FORM, FORMAT, MANIFEST, SIGNATURE, VERSION, Fault, against_record, missing
from peftlab.report.signature import Signature, check
from peftlab.runs.find import find
from peftlab.runs.record import FILE_NAME as RECORD
from peftlab.runs.record import MOST_BYTES
from peftlab.runs.record_form import FORM as RECORD_FORM
from peftlab.storage.disk import writing
from peftlab.storage.entries import is_inner, oddity

MOST_RATIO = 200
"""How many times its own size an archive may have unpacked: predictions shrink to a tenth, bombs to a thousandth."""

ALWAYS = 2**26
"""So many bytes any archive may have unpacked."""

MOST_MEMBERS = 1_000_000

_MOST_OF_A_NAME, _MOST_OF_A_PATH = 255, 1024
"""Bytes of the name of a file or folder, on most file systems; of all of them together, below the temporary folder."""

_SHOWN = 8
"""How many runs a message lists."""

_CHUNK = 2**20

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError, ValueError)
"""What the standard library raises on a member that is damaged, encrypted or packed by other means."""


@dataclass(frozen=True)
class Opened:
    """An unpacked archive."""

    folder: Path
    """Holds every member that is as the manifest says."""
    faults: tuple[Fault, ...]
    """What was left out, and what is missing."""


@dataclass(frozen=True)
class Verification:
    """What `verify` says of an archive."""

    archive: Path
    sha256: str
    """The digest of the manifest."""
    runs: int
    files: int
    """How many members the manifest lists."""
    weights: bool
    """Whether the archive was made with weights."""
    faults: tuple[Fault, ...]
    signature: Signature

    @property
    def holds(self) -> bool:
        """Whether all digests match, nothing is missing or extra, and no signature is bad."""
        return not self.faults and self.signature.state != "bad"


def is_archive(path: str | Path) -> bool:
    """Return whether `path` is a zip file, or is named as one and no folder."""
    file = Path(path)
    return (file.suffix == ".zip" and not file.is_dir()) or (file.is_file() and zipfile.is_zipfile(file))


def verify(
    archive: str | Path, *, key: str | Path | None = None, allowed_signers: str | Path | None = None
) -> Verification:
    """Check every member of an archive against its manifest, every record's list of files, and the signature.

    Args:
        archive: the zip file.
        key: the file of the public SSH key that has to have signed it.
        allowed_signers: a list of signers and their keys, one of whom has to have signed it.

    Raises:
        UserError: it is no archive, or keys cannot be read.
    """
    with _reading(Path(archive)) as reader:
        faults = [*reader.faults]
        digests = {name: entry["sha256"] for name, entry in reader.listed.items()}
        for name in reader.members:
            record = BytesIO() if PurePosixPath(name).name == RECORD else None
            if fault := reader.copy(name, record):
                faults.append(fault)
            elif record is not None:
                faults += _against(name, record.getvalue(), digests, reader.weights)
        keys = (None if file is None else Path(file).expanduser() for file in (key, allowed_signers))
        return Verification(
            archive=Path(archive),
            sha256=hashlib.sha256(reader.document).hexdigest(),
            runs=sum(PurePosixPath(name).name == RECORD for name in digests),
            files=len(digests),
            weights=reader.weights,
            faults=tuple(faults),
            signature=check(reader.document, reader.signature, *keys),
        )


@contextmanager
def opened(archive: str | Path) -> Iterator[Opened]:
    """Unpack an archive into a temporary folder, which is removed when the block ends.

    Raises:
        UserError: it is no archive, only half of one, or larger than an archive of its size can be.
        DiskError: there is no room for it.
    """
    with (
        _reading(Path(archive)) as reader,
        tempfile.TemporaryDirectory(prefix="peftlab-archive-", ignore_cleanup_errors=True) as name,
    ):
        folder, faults = Path(name), [*reader.faults]
        if (free := shutil.disk_usage(folder).free) < reader.bytes:
            raise UserError(
                f"'{archive}': unpacked it has {reader.bytes:,} bytes, and {free:,} are free in {folder.parent}: set "
                "TMPDIR to a folder with more"
            )
        with writing(folder, reader.bytes, "set TMPDIR to a folder with more room"):
            for member in reader.members:
                file = folder / member
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("xb") as target:
                    fault = reader.copy(member, target)
                if fault:
                    file.unlink()
                    faults.append(fault)
        yield Opened(folder, tuple(faults))


@contextmanager
def run_folder(run: str | Path) -> Iterator[tuple[Path, str]]:
    """Yield the folder of `run`, and what to call it.

    Args:
        run: what `peftlab.runs.find.find` takes, or a run in an archive: ``ARCHIVE.zip:ID``, where the start of its id
            suffices, or ``ARCHIVE.zip`` alone if that holds one run.

    Raises:
        UserError: there is no such run, or it is not as the archive's manifest says.
    """
    archive, _, start = str(run).rpartition(":")
    if is_archive(run):
        archive, start = str(run), ""
    elif not (archive and is_archive(archive)):
        yield (folder := find(run)), str(folder)
        return
    with opened(archive) as unpacked:
        runs = sorted(file.parent for file in unpacked.folder.rglob(RECORD))
        names = [folder.relative_to(unpacked.folder).as_posix() for folder in runs]
        whole = [name for name in names if start in (name, name.rpartition("/")[2])]
        matches = whole or [name for name in names if name.rpartition("/")[2].startswith(start)]
        if len(matches) != 1:
            listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            which = "more than one of its runs" if matches else "none of its runs"
            asked = f"'{start}' names {which}" if start else "it has more than one run"
            raise UserError(f"{archive}: {asked}: name one as {archive}:ID, of {listed or 'which none is whole'}")
        name = matches[0]
        for fault in unpacked.faults:
            if fault.member.startswith(f"{name}/"):
                raise UserError(f"{archive}: {fault.member} {fault.what}: it is not used. `peftlab verify` lists all")
        yield unpacked.folder / name, f"{archive}:{name}"


@contextmanager
def _reading(file: Path) -> Iterator[_Reader]:
    """Open an archive.

    Raises:
        UserError: it cannot be read.
    """
    if odd := oddity(file):
        raise UserError(f"'{file}' is {odd}, and no archive. `peftlab archive` makes one")
    try:
        archive = zipfile.ZipFile(file)
    except FileNotFoundError as error:
        raise UserError(f"'{file}': there is no such file. `peftlab archive` makes one") from error
    except OSError as error:
        raise UserError(f"'{file}' cannot be read: {error.strerror}. Name an archive: a zip file") from error
    except _DAMAGE as error:
        raise UserError(f"'{file}' is no whole zip file ({error}): copy it again, or make it anew") from error
    with archive:
        yield _Reader(file, archive)


class _Reader:
    """An open archive: its manifest, and the members that may be what the manifest lists."""

    def __init__(self, file: Path, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        infos = [info for info in archive.infolist() if info.file_size or not info.filename.endswith("/")]
        self.bytes = sum(info.file_size for info in infos)
        """How many it has unpacked, as it says; no member can be read beyond its own share."""
        if len(infos) > MOST_MEMBERS:
            raise UserError(f"'{file}' has {len(infos):,} members, more than {MOST_MEMBERS:,}: it is not read")
        if self.bytes > max(ALWAYS, MOST_RATIO * file.stat().st_size):
            raise UserError(
                f"'{file}' would have {self.bytes:,} bytes unpacked, more than {MOST_RATIO} times its own: not read"
            )
        times = Counter(info.filename for info in infos)
        self._infos = {info.filename: info for info in infos}
        manifest = self._manifest(file, times)
        self.weights = bool(manifest["weights"])
        self.signature = self._whole(SIGNATURE) if SIGNATURE in self._infos else None
        self.listed: dict[str, Mapping[str, Any]] = {entry["path"]: entry for entry in manifest["files"]}
        """The entries of the manifest, by member."""
        self.faults = tuple(self._structure(times, Counter(entry["path"] for entry in manifest["files"])))
        """What is wrong without a look at the content."""
        faulty = {fault.member for fault in self.faults}
        self.members = [name for name in self.listed if name not in faulty]
        """Those that can be read."""

    def copy(self, name: str, target: IO[bytes] | None) -> Fault | None:
        """Copy a member to `target`, and return what is wrong with it; without a target it is only checked."""
        entry, digest, size = self.listed[name], hashlib.sha256(), 0
        if isinstance(target, BytesIO) and entry["bytes"] > MOST_BYTES:
            return Fault(name, "is larger than a record may be")
        try:
            for chunk in self._chunks(name):
                digest.update(chunk)
                size += len(chunk)
                if size > entry["bytes"]:
                    break
                if target is not None:
                    target.write(chunk)
        except _DAMAGE as error:
            return Fault(name, f"cannot be unpacked: {error}")
        if (size, digest.hexdigest()) != (entry["bytes"], entry["sha256"]):
            return Fault(name, "is not what the manifest lists")
        return None

    def _manifest(self, file: Path, times: Mapping[str, int]) -> Any:
        if times.get(MANIFEST) != 1 or times.get(SIGNATURE, 0) > 1:
            raise UserError(
                f"'{file}' is no archive of peftlab: it has not one {MANIFEST}. `peftlab archive` makes one"
            )
        try:
            self.document = self._whole(MANIFEST)
            manifest = parsed(self.document.decode())
            if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
                raise ValueError(f"its format is not '{FORMAT}'")
            version = manifest.get("version")
            if type(version) is int and version > VERSION:
                raise UserError(
                    f"'{file}' is an archive of version {version}, and this peftlab reads up to {VERSION}. Upgrade: "
                    "`pip install --upgrade peftlab`."
                )
            json_form.check(manifest, FORM)
        except _DAMAGE as error:
            raise UserError(f"'{file}': its {MANIFEST} cannot be read: {error}. Make the archive anew") from error
        return manifest

    def _whole(self, name: str) -> bytes:
        """Return the content of a member that is about the others."""
        if reason := _unfit(name, info := self._infos[name]):
            raise ValueError(f"it {reason}")
        if info.file_size > MOST_BYTES:
            raise ValueError(f"it has {info.file_size:,} bytes, more than {MOST_BYTES:,}")
        return b"".join(self._chunks(name))

    def _chunks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a member.

        Raises:
            ValueError, or another of `_DAMAGE`: it is damaged.
        """
        try:
            with self._archive.open(self._infos[name]) as member:
                while chunk := member.read(_CHUNK):
                    yield chunk
        except OSError as error:  # an offset that no file has
            raise ValueError(str(error)) from error

    def _structure(self, times: Mapping[str, int], listed: Mapping[str, int]) -> Iterator[Fault]:
        """Yield what is wrong with the names of the members and of the manifest."""
        ordered = sorted(listed, key=lambda name: name.replace("/", "\0"))  # what a folder holds stands behind it
        folders = {name for name, following in pairwise(ordered) if following.startswith(f"{name}/")}
        same = Counter(unicodedata.normalize("NFC", name).casefold() for name in listed)
        for name, times_listed in listed.items():
            info = self._infos.get(name)
            if info is None:
                yield Fault(name, "is missing")
            elif times_listed > 1 or times[name] > 1:
                yield Fault(name, "is there more than once")
            elif reason := _unfit(name, info):
                yield Fault(name, reason)
            elif name in folders or name in (MANIFEST, SIGNATURE):
                yield Fault(name, "has the name of something else in the archive")
            elif same[unicodedata.normalize("NFC", name).casefold()] > 1:
                yield Fault(name, "differs from another member in its spelling alone")
        for name in times:
            if name not in listed and name not in (MANIFEST, SIGNATURE):
                yield Fault(name, "is not in the manifest")


def _unfit(name: str, info: zipfile.ZipInfo) -> str | None:
    """Return why a member is not unpacked; None if it may be."""
    parts = PurePosixPath(name).parts
    if not is_inner(name, portable=True) or has_controls(name) or PurePosixPath(name).as_posix() != name:
        return "has a name that leads elsewhere, or that not every system can write"
    sizes = [len(part.encode(errors="replace")) for part in parts]
    if max(sizes) > _MOST_OF_A_NAME or sum(sizes) > _MOST_OF_A_PATH:
        return "has a name that is too long"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may ask for any memory
        return "is packed in a way that archives are not"
    return None


def _against(name: str, content: bytes, digests: Mapping[str, str], weights: bool) -> Iterator[Fault]:
    """Yield where the record in the member `name` contradicts the manifest, or lists what the archive lacks."""
    try:
        record = parsed(content.decode())
        json_form.check(record, {"files": RECORD_FORM["files"]})
    except ValueError as error:
        yield Fault(name, f"is no run record: {error}")
        return
    yield from against_record(name, record, digests)
    yield from missing(name, record, digests, weights)
