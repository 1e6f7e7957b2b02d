"""Checks whether a run folder has changed since the run: files and configuration against the record's digests."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.errors import UserError
from peftlab.runs.folder import CONFIG, RunFolder
from peftlab.runs.identity import identity
from peftlab.storage import checkpoints
from peftlab.storage.atomic import is_torn
from peftlab.storage.digests import file_sha256

log = logging.getLogger("peftlab")

OF_THE_RUN = ("adapter", "checkpoints", "predictions", "tables")
"""Folders that hold nothing but the run's own files."""


@dataclass(frozen=True)
class File:
    """A file of the run folder."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Change:
    """A file that differs from its entry in the record."""

    path: str
    """Its path in the folder."""
    listed: Mapping[str, Any] | None
    """The entry of the record; None: it has none."""
    here: File | None
    """The present file; None: it is gone."""


def files(folder: Path, listed: Collection[str], own: Collection[str] = OF_THE_RUN) -> dict[str, File]:
    """Return, by path, the `listed` files that are here, and all files in the folders `own`."""
    present = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        is_own = name.parts[0] in own and not is_torn(path) and not checkpoints.belongs(path)
        if path.is_file() and (name.as_posix() in listed or is_own):
            present[name.as_posix()] = File(path.stat().st_size, file_sha256(path))
    return present


def changes(listed: Iterable[Mapping[str, Any]], present: Mapping[str, File]) -> Iterator[Change]:
    """Yield the files that differ from their entries in the record, in its order, then those that it does not list."""
    paths = set()
    for entry in listed:
        path, here = entry["path"], present.get(entry["path"])
        paths.add(path)
        if here is None or (here.bytes, here.sha256) != (entry["bytes"], entry["sha256"]):
            yield Change(path, entry, here)
    for path, file in present.items():
        if path not in paths:
            yield Change(path, None, file)


def config_sha256(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the digest of `config` as the identity in `record` would have it."""
    recorded = record["identity"]
    return str(identity(config, recorded["data_sha256"], recorded["weights_sha256"])["config_sha256"])


def check_unchanged(folder: RunFolder, config: Mapping[str, Any]) -> None:
    """Check that configuration and adapter are those of the record.

    A run that did not finish has no list of files: that is logged, and its adapter is accepted unchecked.

    Raises:
        UserError: they are not, or the list of a completed run lacks them.
    """
    record = folder.record.data
    listed = [file for file in record["files"] if file["path"] == CONFIG or file["path"].startswith("adapter/")]
    changed = {change.path: change for change in changes(listed, files(folder.path, {CONFIG}, {"adapter"}))}
    # a value masked in the file as a secret is not masked in the identity
    if changed.pop(CONFIG, None) and config_sha256(record, config) != record["identity"]["config_sha256"]:
        raise UserError(not_of_the_record(folder, CONFIG, "the configuration of its record"))
    if all(file["path"] == CONFIG for file in listed):
        if record["status"] == "completed":
            raise UserError(not_of_the_record(folder, "the list of files in its record", "that of a completed run"))
        log.warning("%s: its record has no digests of the adapter: it is taken as it is", folder.path)
        return
    if changed:
        raise UserError(not_of_the_record(folder, min(changed), "what the run has left there"))


def not_of_the_record(folder: RunFolder, what: str, expected: str) -> str:
    """Return the message for a part `what` of a run that is not what its record expects."""
    return (
        f"{folder.path}: {what} is not {expected}: it was changed after the run. Put back what the run has left, or "
        f"train it again with `peftlab reproduce {folder.path}`, which lists all differences"
    )
