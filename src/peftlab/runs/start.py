"""Start a run: create and claim its folder, or find the one in which this very run was begun or completed."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.errors import ConfigError, DiskError, UserError
from peftlab.masking.mask import mask_settings
from peftlab.reading import plain_yaml
from peftlab.runs.compare import differing_parts
from peftlab.runs.environment import WITHOUT_EFFECT, packages_text
from peftlab.runs.find import readable_records
from peftlab.runs.folder import CONFIG, PACKAGES, RunFolder
from peftlab.runs.identity import run_id_of
from peftlab.runs.record import FILE_NAME, RunRecord
from peftlab.storage.atomic import is_torn, remove, remove_torn, replacing
from peftlab.storage.disk import writing
from peftlab.storage.entries import check_own, is_plain_file
from peftlab.storage.locks import LOCK, alone, lock

log = logging.getLogger("peftlab")

UNFINISHED = ("running", "interrupted", "failed", "pruned")
"""The statuses of a run that can be resumed; a killed run still has the status running."""

_LEAVE_OUT = "leave existing=resume out"

_REPLACED = f".{FILE_NAME}.0"
"""The name of the record of a run while it is replaced, in the form of a torn file, see `_empty`."""


class Unwritten(RunRecord):
    """A record without a file."""

    def write(self) -> None:
        """Write nothing."""


class Elsewhere(RunFolder):
    """The run folder for ranks other than 0: it is not theirs, and any write to it fails."""

    @contextmanager
    def recording(self, cost: Callable[[], Mapping[str, Any]], keep_every: int | None = None) -> Iterator[RunRecord]:
        """Leave the recording to rank 0."""
        yield self.record

    def resume(self, sharded: bool = False, unfit: Callable[[Path], str | None] | None = None) -> None:
        """Leave it to rank 0."""


def elsewhere(name: str, identity: Mapping[str, Any], **record: Any) -> Elsewhere:
    """Return the stand-in for the run folder on ranks other than 0; the arguments are those of `start`."""
    nowhere = Path(os.devnull)
    return Elsewhere(Unwritten.start(nowhere, run_id=run_id_of(identity), name=name, identity=identity, **record))


def start(config: Mapping[str, Any], name: str, identity: Mapping[str, Any], **record: Any) -> RunFolder:
    """Create the run folder with its first files, or return the one in which this very run was begun or completed.

    If several commands start the same run at the same moment, one creates the folder, and the others find it.

    Args:
        config: the resolved configuration; ``run_dir`` or ``sweep_dir`` say where, and ``existing`` what to do about an
            existing run.
        name: the run's name, and its folder below ``runs/``.
        identity: the record's section.
        record: further arguments of `RunRecord.start`.

    Raises:
        ConfigError: ``run_dir`` holds something else, or the folder cannot be created or written; there is nothing to
            resume; another process is writing the run.
    """
    asked = _Asked(config, name, identity, record)
    try:
        if (folder := asked.existing()) is not None:
            return folder
        if config["existing"] == "resume":
            raise ConfigError(asked.nothing_to_resume())
        if (finished := asked.finished()) is not None:
            log.info("this very run is finished already: %s; making it again", finished.folder)
        return asked.beginning_in(asked.exact) if asked.exact else asked.beginning_below(asked.root)
    except DiskError as error:
        raise ConfigError(str(error)) from error


@dataclass(frozen=True)
class _Asked:
    """A requested run; see `start`."""

    config: Mapping[str, Any]
    name: str
    identity: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        return run_id_of(self.identity)

    @property
    def root(self) -> Path:
        """The folder of all runs of this name."""
        return Path("runs") / self.name

    @property
    def exact(self) -> Path | None:
        """The folder of the run, if the configuration fixes it."""
        if self.config["run_dir"]:
            return Path(self.config["run_dir"])
        # a trial always has the same folder
        return Path(self.config["sweep_dir"]) / self.run_id if self.config.get("sweep_dir") else None

    def existing(self) -> RunFolder | None:
        """Return the folder of this very run if it is finished or can resume; None: start it anew."""
        existing = self.config["existing"]
        if existing == "rerun":
            return None
        if (existing == "skip" or (self.exact and existing == "auto")) and (finished := self.finished()) is not None:
            log.info("this very run is finished already: %s", finished.folder)
            return RunFolder(finished, finished=True)
        unfinished = next((run for run in reversed(self._runs()) if run.data["status"] in UNFINISHED), None)
        return None if unfinished is None else _go_on(unfinished.folder, self.config, **self.record)

    def finished(self) -> RunRecord | None:
        """Return the record of this very run if it was completed."""
        return next((run for run in self._runs() if run.data["status"] == "completed"), None)

    def beginning_below(self, root: Path) -> RunFolder:
        """Return a new folder below `root`, unless another process has begun this very run meanwhile."""
        make_root(root)
        with writing(root), alone(root, self.run_id):
            if (folder := self.existing()) is not None:
                return folder
            path = claim_folder(root, self.run_id)
            with writing(path):
                descriptor = lock(path)
            return self._begin(path, descriptor)

    def beginning_in(self, path: Path) -> RunFolder:
        """Return the folder `path` for a new start, unless another process has begun this very run there meanwhile."""
        replaces = self.config["existing"] == "rerun"
        if not _is_free(path):
            if not (path / FILE_NAME).is_file():
                if (path / LOCK).is_file():  # another process may just be replacing the run
                    os.close(lock(path))
                if not is_plain_file(path / _REPLACED):
                    raise ConfigError(f"run_dir={path}: there is something else in it; name a new or empty folder")
                if not replaces:
                    raise ConfigError(
                        f"run_dir={path}: holds the rest of a run that was being replaced; go on with that, "
                        "existing=rerun, or name another folder"
                    )
            elif not replaces:
                return self._again_in(path)
        try:
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run_dir={path}: cannot be made ({error.strerror}); name another folder") from error
        with writing(path):
            descriptor = lock(path)
        if not replaces and (path / FILE_NAME).is_file():
            os.close(descriptor)
            return self._again_in(path)
        if replaces:
            _empty(path)
        remove_torn(path)
        return self._begin(path, descriptor)

    def _again_in(self, path: Path) -> RunFolder:
        """Start again with the record that `path` now holds; raises ConfigError if it is that of another run."""
        existing = RunRecord.load(path)
        if existing.data["identity"]["sha256"] == self.identity["sha256"]:
            return start(self.config, self.name, self.identity, **self.record)
        parts = differing_parts(existing, self.config, self.identity, self.record.get("data", {}))
        raise ConfigError(
            f"run_dir={path}: holds another run ({'; '.join(parts)}); name another folder, or replace it with "
            "existing=rerun"
        )

    def nothing_to_resume(self) -> str:
        """Return why no run is resumed: it is finished, the newest unfinished one differs, or there is none."""
        if (finished := self.finished()) is not None:
            return f"existing=resume: {finished.folder} is finished: there is nothing to resume; {_LEAVE_OUT}"
        where = self.exact or self.root
        others = [file.parent for file in where.glob(FILE_NAME if self.exact else f"*/{FILE_NAME}")]
        unfinished = [run for run in readable_records(others) if run.data["status"] in UNFINISHED]
        if not unfinished:
            return f"existing=resume: {where} holds no run that could be resumed; {_LEAVE_OUT}"
        newest = max(unfinished, key=lambda other: str(other.data["started_at"]))
        return f"{newest.folder} cannot be resumed as it is another run than this one now: " + "; ".join(
            differing_parts(newest, self.config, self.identity, self.record.get("data", {}))
        )

    def _runs(self) -> list[RunRecord]:
        """Return the records of this very run, oldest first."""
        folders = [self.exact] if self.exact else self.root.glob(f"{self.run_id}*")
        same = [run for run in readable_records(folders) if run.data["identity"]["sha256"] == self.identity["sha256"]]
        return sorted(same, key=lambda run: str(run.data["started_at"]))

    def _begin(self, path: Path, descriptor: int) -> RunFolder:
        """Return the folder `path`, which this process has locked, with the first files of the run."""
        try:
            made = RunRecord.start(path, run_id=self.run_id, name=self.name, identity=self.identity, **self.record)
            _describe(path, self.config)
        except DiskError:  # the run has not begun: leave nothing behind
            shutil.rmtree(path, ignore_errors=True)
            raise
        return RunFolder(made, lock=descriptor)


def _go_on(path: Path, config: Mapping[str, Any], **record: Any) -> RunFolder:
    """Return the folder of an unfinished run, locked by this process."""
    check_own(path)
    with writing(path):
        descriptor = lock(path)
    existing = RunRecord.load(path)  # again: another process may have resumed it meanwhile
    if existing.data["status"] == "completed":
        os.close(descriptor)
        return RunFolder(existing, finished=True)
    then, here = existing.data["environment"], record["environment"]
    differing = [key for key in here if key not in WITHOUT_EFFECT and then.get(key) != here[key]]
    elsewhere = {key: (then.get(key), here[key]) for key in differing}
    existing.update(environment=here, code=record["code"])
    _describe(path, config)  # settings outside the identity, such as the devices, may have changed
    return RunFolder(existing, unfinished=True, elsewhere=elsewhere, lock=descriptor)


def _describe(path: Path, config: Mapping[str, Any]) -> None:
    for name, text in ((CONFIG, plain_yaml.dump(mask_settings(config))), (PACKAGES, packages_text())):
        with replacing(path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def make_root(root: Path) -> None:
    """Create the folder `root` of runs if it is missing.

    Raises UserError if it cannot be created, and DiskError if the disk is the reason.
    """
    try:
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder '{root}' ({error.strerror}). Choose another with run_dir=.") from error


def claim_folder(root: Path, run_id: str) -> Path:
    """Create and return `<root>/<run_id>`, or `<run_id>-2`, `-3`, ... if that exists; no two runs get the same folder.

    Raises what `make_root` raises.
    """
    make_root(root)
    for number in itertools.count(1):
        folder = root / (run_id if number == 1 else f"{run_id}-{number}")
        with writing(folder), contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("unreachable: the numbers never end")


def _is_free(path: Path) -> bool:
    """Return whether a run may begin in `path`: it is missing, empty, or holds only the leftovers of a killed run."""
    if not path.exists():
        return True
    return path.is_dir() and all(_before_the_record(file) for file in path.iterdir())


def _before_the_record(file: Path) -> bool:
    """Return whether `file` is a leftover of a run that was killed before it had a record."""
    return file.name == LOCK or is_torn(file, FILE_NAME)


def _empty(path: Path) -> None:
    """Remove everything from the folder `path` except the lock, which keeps other processes out.

    First the record gets another name: whenever this is killed, what is left is taken neither for the finished run that
    it was nor for something else than a run, and the same command goes on with it.
    """
    with contextlib.suppress(FileNotFoundError):
        (path / FILE_NAME).replace(path / _REPLACED)
    for entry in [entry for entry in path.iterdir() if entry.name not in (LOCK, _REPLACED)]:
        remove(entry)
    remove(path / _REPLACED)
