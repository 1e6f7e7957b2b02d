"""Archives: one zip file with the records of runs and sweeps and all that confirms them, and a manifest of digests.

The names in an archive are those of the folders, so that a run unpacked from it is a run folder. The same folders give
the same bytes: members are sorted and bear no times. Weights are left out unless they are asked for; whatever a run
trained can be trained again from its record.

How an archive is read back, and what is believed of it, is in `peftlab.report.unpacking`. No torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO

from peftlab.errors import UserError
from peftlab.reading.json_form import Form
from peftlab.reading.unicode_text import has_controls, is_valid
from peftlab.report.signature import key_file, sign
from peftlab.runs.find import find
from peftlab.runs.folder import BESIDE, CONFIG, PACKAGES
from peftlab.runs.record import FILE_NAME as RECORD
from peftlab.runs.record import RunRecord
from peftlab.storage.atomic import is_torn, replacing
from peftlab.storage.entries import inside, is_inner, is_plain_file

MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
"""The members that are about the others."""

FORMAT, VERSION = "peftlab archive", 1

FORM: dict[str, Form] = {
    "format": "text",
    "version": "count",
    "weights": "flag",
    "files": [{"path": "path", "bytes": "count", "sha256": "text"}],
}
"""The form of a manifest."""

_OF_A_RUN = (
    *(RECORD, CONFIG, PACKAGES, *BESIDE, "trail.jsonl", "metrics.csv"),
    *("predictions/*.jsonl", "tables/*/*.csv", "adapter/*.json"),
)
"""What is taken of a run besides the files that its record lists: an unfinished one lists none."""

_OF_CHAINS = ("chain.json", "stream.json", "scorecard.json")
_BESIDE_RUNS = ("sweep.json", "trials.csv", "report.*", "report/**/*", *_OF_CHAINS)
"""What is taken of a folder of runs: the board of a sweep, what a chain has come to, and the report."""

_OF_A_REPORT = ("report.*", "figures/*")
"""What is taken of the folder of a report that lies elsewhere."""

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")

_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can name."""

_CHUNK = 2**20


@dataclass(frozen=True)
class Fault:
    """What is wrong with a member of an archive."""

    member: str
    """Its name in the archive."""
    what: str
    """As text that goes on from the name."""


@dataclass(frozen=True)
class Written:
    """An archive that `write` has made."""

    path: Path
    runs: int
    files: int
    bytes: int
    """The size of the archive."""
    sha256: str
    """The digest of the manifest, which stands for all that it lists."""
    doubts: tuple[Fault, ...]
    """Files that went in though they are not as their run's record says, and files that could not go in."""


def write(
    paths: Sequence[str | Path], out: str | Path, *, weights: bool = False, key: str | Path | None = None
) -> Written:
    """Write an archive of all runs in `paths`.

    Args:
        paths: run folders, folders that hold runs, such as sweeps, or starts of ids, see `peftlab.runs.find`; besides,
            folders of reports.
        out: the zip file; it appears when it is complete.
        weights: whether adapters and best checkpoints go in, too.
        key: the file of an SSH key to sign the manifest with, see `peftlab.report.signature`.

    Raises:
        UserError: a path holds no run, `out` exists or is no name of a zip file, or nothing can be signed with `key`.
        DiskError: the archive cannot be written.
    """
    out = Path(out)
    if out.suffix != ".zip":
        raise UserError(f"'{out}': an archive is a zip file. Give it a name that ends in .zip")
    if out.exists():
        raise UserError(f"'{out}' is there already: name a new file")
    signer = None if key is None else key_file(key)
    members, doubts = _members([_meant(path) for path in paths], weights)
    records = sorted(name for name in members if PurePosixPath(name).name == RECORD)
    if not records:
        raise UserError(f"{', '.join(map(str, paths))}: there is no run in what was named, only reports")
    files: list[dict[str, Any]] = []
    with (
        replacing(out, elsewhere="name another file") as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, file in sorted(members.items()):
            with _opened(file) as source:
                files.append({"path": name, **_add(archive, name, source)})
        manifest = {"format": FORMAT, "version": VERSION, "weights": weights, "files": files}
        document = (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()
        archive.writestr(_info(MANIFEST), document)
        if signer is not None:
            archive.writestr(_info(SIGNATURE), sign(document, signer))
    digests = {file["path"]: file["sha256"] for file in files}
    for name in records:
        with suppress(UserError):  # a damaged one is among the doubts already
            doubts += against_record(name, RunRecord.load(members[name]).data, digests)
    return Written(
        path=out,
        runs=len(records),
        files=len(files),
        bytes=out.stat().st_size,
        sha256=hashlib.sha256(document).hexdigest(),
        doubts=tuple(doubts),
    )


def against_record(name: str, record: Mapping[str, Any], digests: Mapping[str, str]) -> Iterator[Fault]:
    """Yield the members that are not as the record of their run lists them; weights that were left out are none.

    Args:
        name: the member that holds the record.
        record: its content.
        digests: the sha256 of every member, by name.
    """
    folder = PurePosixPath(name).parent
    for file in record["files"]:
        member = (folder / file["path"]).as_posix()
        if digests.get(member, file["sha256"]) != file["sha256"]:
            yield Fault(member, f"is not what {name} lists: it was changed after the run")


def missing(name: str, record: Mapping[str, Any], digests: Mapping[str, str], weights: bool) -> Iterator[Fault]:
    """Yield the files that a record lists and the archive lacks.

    Args:
        name: the member that holds the record.
        record: its content.
        digests: the sha256 of every member, by name.
        weights: whether the archive was made with weights; without, they are not missing.
    """
    folder = PurePosixPath(name).parent
    for file in record["files"]:
        path = PurePosixPath(file["path"])
        if (member := (folder / path).as_posix()) not in digests and (weights or not _is_weights(path)):
            yield Fault(member, f"is not in the archive, and {name} lists it")


def _meant(path: str | Path) -> Path:
    """Return the folder that `path` names: itself, or that of a run by the start of its id."""
    return Path(path) if Path(path).is_dir() else find(path)


def _members(folders: Iterable[Path], weights: bool) -> tuple[dict[str, Path], list[Fault]]:
    """Return the files of an archive by name, and what is doubtful about them or left out."""
    whole = [Path(os.path.abspath(folder)) for folder in folders]
    top = Path(os.path.commonpath([folder.parent for folder in whole]))
    members: dict[str, Path] = {}
    doubts: list[Fault] = []
    for folder in whole:
        runs = [folder] if (folder / RECORD).is_file() else sorted(file.parent for file in folder.rglob(RECORD))
        around = [] if runs == [folder] else [folder, *(file.parent for file in folder.rglob(_BESIDE_RUNS[0]))]
        files = [(beside, file) for beside in around for file in _matching(beside, _BESIDE_RUNS)]
        if not runs:
            files = [(folder, file) for file in _matching(folder, _OF_A_REPORT)]
        if not files and not runs:
            raise UserError(f"'{folder}' holds no run: there is no {RECORD} in it. `peftlab runs DIR` lists runs")
        for run in runs:
            files += [(run, file) for file in _of_run(run, run.relative_to(top).as_posix(), weights, doubts)]
        for owner, file in files:
            name = file.relative_to(top).as_posix()
            if name in members or (_is_weights(file.relative_to(owner)) and not weights):
                continue
            if (reason := _unfit(owner, file, name)) is None:
                members[name] = file
            else:
                doubts.append(Fault(name, f"{reason}: left out"))
    return members, sorted(set(doubts), key=lambda doubt: (doubt.member, doubt.what))


def _of_run(run: Path, name: str, weights: bool, doubts: list[Fault]) -> list[Path]:
    """Return the files to take of the run in the folder `run`, called `name`; add to `doubts` what is wrong with it.

    Args:
        run: the folder.
        name: its name in the archive.
        weights: whether weights go in, so that those that are gone are missed.
        doubts: what is wrong so far.
    """
    files = _matching(run, _OF_A_RUN)
    try:
        record = RunRecord.load(run).data
    except UserError as error:
        doubts.append(Fault(f"{name}/{RECORD}", f"is damaged: {error}"))
        return files
    if record["status"] == "running":
        doubts.append(Fault(f"{name}/{RECORD}", "says that the run is still running, or it was killed"))
    listed = [run / file["path"] for file in record["files"]]
    here = [file for file in listed if file.is_symlink() or file.exists()]
    gone = [file for file in listed if file not in here and (weights or not _is_weights(file.relative_to(run)))]
    if gone:
        first = gone[0].relative_to(run)
        doubts.append(Fault(f"{name}/{RECORD}", f"lists files that are gone, {len(gone)} of them, such as {first}"))
    return [*files, *here]


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    found = (file for pattern in patterns for file in sorted(folder.glob(pattern)))
    return [file for file in found if not (file.is_dir() or is_torn(file))]


def _unfit(folder: Path, file: Path, name: str) -> str | None:
    """Return why a file of `folder` cannot be the member `name`; None if it can."""
    if not is_plain_file(file):
        return "is no plain file"
    if not (is_inner(name, portable=True) and is_valid(name)) or has_controls(name):
        return "has a name that not every system can write"
    try:
        inside(folder, file)
    except UserError as error:
        return str(error)
    return None


def _is_weights(name: PurePath) -> bool:
    """Return whether a file of a run, by its path in the run folder, holds weights."""
    return name.parts[0] == "checkpoints" or name.suffix in _WEIGHTS


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise UserError(f"'{file}' cannot be read: {error.strerror}. Make it readable, or move it away") from error


def _add(archive: zipfile.ZipFile, name: str, source: BinaryIO) -> dict[str, Any]:
    """Add the bytes of `source` as the member `name`, and return their number and digest."""
    digest, size = hashlib.sha256(), 0
    info = _info(name)
    info.file_size = os.fstat(source.fileno()).st_size  # decides whether the member needs the format for large files
    with archive.open(info, "w") as member:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            member.write(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix, wherever it is made
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info
