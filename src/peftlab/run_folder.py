"""Where a run is kept: claims the folder, and keeps its record true whether the run ends well, badly or early."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftlab import checkpoints, plain_yaml
from peftlab.atomic_files import is_torn, remove, remove_torn, replacing
from peftlab.checkpoints import Unfit
from peftlab.compare import differences
from peftlab.config import packages_of
from peftlab.console import VERBATIM, log_file
from peftlab.disk import writing
from peftlab.entries import FOLDERS, check_own, is_plain_folder, taken_by
from peftlab.errors import ConfigError, DiskError
from peftlab.exits import Interrupted, Pruned
from peftlab.locks import LOCK, alone, lock
from peftlab.masking.mask import mask_settings, masked_in
from peftlab.record import (
    FILE_NAME,
    RunRecord,
    claim_folder,
    deciding_part,
    make_root,
    packages_text,
    run_id_of,
)
from peftlab.record_form import Status
from peftlab.runs import CONFIG, PACKAGES, VERDICTS, read_config, readable_records
from peftlab.sources import file_sha256

log = logging.getLogger("peftlab")

UNFINISHED = ("running", "interrupted", "failed", "pruned")
"""The statuses of a run that can go on; a killed one is still said to be running."""

_SECTIONS = (
    *("model", "model.source", "data", "data.source", "task", "task.selection", "peft", "optimizer", "scheduler"),
    *("trainer", "budget", "callbacks", "logger"),
)
"""What a resolved configuration consists of, as dotted keys: each has keys and values of its own."""

_SETTINGS_TOLD = 6
"""How many settings a message names."""

_LEAVE_OUT = "leave existing=resume out"

STILL_WRITTEN = (FILE_NAME, "log.txt", "tracking", LOCK, VERDICTS)
"""What the list of files in a finished record leaves out, beside checkpoints, which have their digests beside them."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: its record, and the names of what lies beside it."""

    record: RunRecord
    finished: bool = False
    """Whether this very run had been completed before, so that there is nothing to do."""
    unfinished: bool = False
    """Whether this very run had been begun before, and is to go on."""
    elsewhere: Mapping[str, Any] = field(default_factory=dict)
    """What its environment was and is, where the two differ: bits may, too."""
    lock: int | None = None
    """The descriptor of the locked file."""
    allow: Sequence[str] = ()
    """The packages of their own whose classes the user lets its configuration name: what it allows itself is no
    reason to run their code."""

    @property
    def path(self) -> Path:
        """The folder."""
        return self.record.folder

    @property
    def checkpoints(self) -> Path:
        """The best checkpoint, and those that the run can go on from."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The best checkpoint, of what is trained."""
        return self.checkpoints / "best.safetensors"

    def damage_of_best(self) -> str | None:
        """Return what is wrong with the best checkpoint; None where it is what the record's selection tells of."""
        expected = self.record.data["selection"].get("sha256")
        if expected is None:  # no validation yet, or an older run
            return None
        if odd := taken_by(self.best, stat.S_IFREG):
            return f"{self.best} is {odd}"
        if not self.best.is_file():
            return f"{self.best} is gone"
        return None if file_sha256(self.best) == expected else f"{self.best} is not what was written there"

    @property
    def trail(self) -> Path:
        """What the weights were on the way, see `peftlab.training.trail`."""
        return self.path / "trail.jsonl"

    @property
    def predictions(self) -> Path:
        """Predictions of each split, one example a line."""
        return self.path / "predictions"

    @property
    def adapter(self) -> Path:
        """What was trained, to be used again."""
        return self.path / "adapter"

    def read_config(self, unused: Sequence[str] = ("logger",)) -> dict[str, Any]:
        """Return the resolved configuration.

        Args:
            unused: the sections that may hold masked settings.

        Raises:
            ConfigError: there is none, a setting in it is masked, or it is not usable, see `check_usable`.
        """
        config = read_config(self.path)
        self.check_usable(config)
        if key := masked_in({section: node for section, node in config.items() if section not in unused}):
            hint = (
                "predictions/*.jsonl beside it have the labels"
                if key.startswith("data.")
                else "or give the command of the run again, which goes on with it"
            )
            raise ConfigError(f"{self.path / CONFIG}: '{key}' was masked as a secret. Write its value there; {hint}")
        return config

    def check_usable(self, config: Mapping[str, Any]) -> None:
        """Check that `config` is that of a run, and what `check_allowed` does.

        Raises:
            ConfigError: a section is none, or a package is not allowed.
        """
        for key in _SECTIONS:
            section, _, inner = key.partition(".")
            node: Any = config.get(section)
            node = node.get(inner) if inner else node  # the outer section has been checked by then
            if not isinstance(node, Mapping):
                raise ConfigError(
                    f"{self.path / CONFIG}: {key} is {'missing' if node is None else repr(node)[:80]}; expected a "
                    "section of keys and values. Put back the file that the run has left there"
                )
        self.check_allowed(config)

    def check_allowed(self, config: Mapping[str, Any]) -> None:
        """Check that the user allows the packages that `config` says the run is made of.

        Raises:
            ConfigError: names those that are not, and says how to allow them.
        """
        if packages := [name for name in packages_of(config) if name not in self.allow]:
            options = " ".join(f"--allow {name}" for name in packages)
            raise ConfigError(
                f"{self.path / CONFIG}: the run is made of classes of {', '.join(packages)}, whose code would be run. "
                f"If you trust it, say so: {options} (in Python allow={packages})"
            )

    @contextmanager
    def recording(self, cost: Callable[[], Mapping[str, Any]], keep_every: int | None = None) -> Iterator[RunRecord]:
        """Keep ``log.txt``, and end the record as completed, interrupted, pruned or failed, by how the block is left.

        Args:
            cost: asked at the end for the record's section.
            keep_every: optimiser steps; of the checkpoints to go on from, a completed run keeps those at multiples.
        """
        with log_file(self.path / "log.txt"):
            log.info("run folder: %s", self.path, extra=VERBATIM)
            try:
                yield self.record
            except (Interrupted, KeyboardInterrupt) as error:
                log.warning("interrupted (%s): the record and the weights so far are in %s", error, self.path)
                self._end("interrupted", error, cost())
                raise
            except Pruned:
                log.info("pruned: the record and the weights so far are in %s", self.path)
                self._end("pruned", None, cost())
                raise
            except BaseException as error:
                log.error("failed: %s: %s; the record is in %s", type(error).__name__, error, self.path)
                self._end("failed", error, cost())
                raise
            else:
                checkpoints.prune(self.checkpoints, last=0, every=keep_every)
                self._end("completed", None, cost())
            finally:
                if self.lock is not None:
                    os.close(self.lock)

    def resume(self, sharded: bool = False, unfit: Unfit | None = None) -> Path | None:
        """Return the checkpoint that an unfinished run goes on from; None: it begins, or has to begin anew.

        Without the best checkpoint so far a run cannot end, for no later one may be better: it then begins anew, and
        comes to the same result.

        Args:
            sharded: whether the model is shared out among ranks, see `checkpoints.newest_whole`.
            unfit: which checkpoints are passed over, see there.
        """
        if not self.unfinished:
            return None
        for folder in (self.path, *(self.path / name for name in FOLDERS), *(self.path / "tables").glob("*")):
            if is_plain_folder(folder):
                remove_torn(folder)
        newest = checkpoints.newest_whole(self.checkpoints, sharded, unfit)
        if newest is not None and (damage := self.damage_of_best()) is not None:
            log.warning("the run begins anew: %s", damage)
            newest = None
        step = checkpoints.step_of(newest) if newest else 0
        for damaged in checkpoints.files(self.checkpoints):
            if damaged == newest:
                break
            checkpoints.remove(damaged)
        log.info("resumed after step %d%s", step or 0, "" if newest else ": there was no checkpoint yet")
        for key, (then, here) in self.elsewhere.items():
            log.warning("resumed elsewhere: %s is %s and was %s; the last digits may differ", key, here, then)
        self.record.resume(step=step, **({"elsewhere": dict(self.elsewhere)} if self.elsewhere else {}))
        return newest

    def _end(self, status: Status, error: Any, cost: Mapping[str, Any]) -> None:
        self.record.update(cost=cost)
        self._list_files()
        try:
            self.record.finish(status, error)
        except DiskError as refused:
            if error is None:
                raise
            raise DiskError(f"{error}; nor can the record say so: {refused}") from error

    def _list_files(self) -> None:
        """List in the record what is in the folder: files with their digests. A link is none, wherever it leads."""
        passed_over = []
        for entry in sorted(self.path.rglob("*")):
            name = entry.relative_to(self.path)
            if name.parts[0] in STILL_WRITTEN or checkpoints.belongs(entry) or is_plain_folder(entry):
                continue
            try:
                if (odd := taken_by(entry, stat.S_IFREG)) is None:
                    self.record.add_file(name)
            except FileNotFoundError:  # somebody has removed it meanwhile
                continue
            except OSError as error:
                odd = f"cannot be read: {error.strerror}"
            if odd is not None:
                passed_over.append(f"{name} ({odd})")
        if passed_over:
            log.info("not listed in the record: %s", ", ".join(passed_over))


class Unwritten(RunRecord):
    """A record that no file holds."""

    def write(self) -> None:
        """Write nothing."""


class Elsewhere(RunFolder):
    """The run folder for ranks other than 0: it is somewhere else, and whatever would be written there fails."""

    @contextmanager
    def recording(self, cost: Callable[[], Mapping[str, Any]], keep_every: int | None = None) -> Iterator[RunRecord]:
        """Leave the recording to rank 0."""
        yield self.record

    def resume(self, sharded: bool = False, unfit: Unfit | None = None) -> None:
        """Leave it to rank 0."""


def elsewhere(name: str, identity: Mapping[str, Any], **record: Any) -> Elsewhere:
    """Return what ranks other than 0 have in place of a run folder; the arguments are those of `start`."""
    nowhere = Path(os.devnull)
    return Elsewhere(Unwritten.start(nowhere, run_id=run_id_of(identity), name=name, identity=identity, **record))


def start(config: Mapping[str, Any], name: str, identity: Mapping[str, Any], **record: Any) -> RunFolder:
    """Make the run folder with its first files, or return the one in which this very run has been begun or completed.

    Of several commands that start the same run at the same moment one makes the folder, and the others see it.

    Args:
        config: the resolved configuration; ``run_dir`` or ``sweep_dir`` say where, and ``existing`` what to do if it is
            there.
        name: of the run and its like, the folder below ``runs/``.
        identity: the record's section.
        record: what else `RunRecord.start` takes.

    Raises:
        ConfigError: ``run_dir`` holds something else, or the folder cannot be made and written to; there is nothing to
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
    """A run that is asked for; see `start`."""

    config: Mapping[str, Any]
    name: str
    identity: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        return run_id_of(self.identity)

    @property
    def root(self) -> Path:
        """The folder of this run and its like."""
        return Path("runs") / self.name

    @property
    def exact(self) -> Path | None:
        """The folder of the run, where it is settled."""
        if self.config["run_dir"]:
            return Path(self.config["run_dir"])
        # a trial: the same one is always at the same place
        return Path(self.config["sweep_dir"]) / self.run_id if self.config.get("sweep_dir") else None

    def existing(self) -> RunFolder | None:
        """Return the folder of this very run if it is to be left alone or goes on; None: it is to be made."""
        existing = self.config["existing"]
        if existing == "rerun":
            return None
        if (existing == "skip" or (self.exact and existing == "auto")) and (finished := self.finished()) is not None:
            log.info("this very run is finished already: %s", finished.folder)
            return RunFolder(finished, finished=True)
        unfinished = next((run for run in reversed(self._runs()) if run.data["status"] in UNFINISHED), None)
        return None if unfinished is None else _go_on(unfinished.folder, self.config, **self.record)

    def finished(self) -> RunRecord | None:
        """Return the record of this very run where it has been completed."""
        return next((run for run in self._runs() if run.data["status"] == "completed"), None)

    def beginning_below(self, root: Path) -> RunFolder:
        """Return a new folder below `root`, where no other process has made one of this very run meanwhile."""
        make_root(root)
        with writing(root), alone(root, self.run_id):
            if (folder := self.existing()) is not None:
                return folder
            path = claim_folder(root, self.run_id)
            with writing(path):
                held = lock(path)
            return self._begin(path, held)

    def beginning_in(self, path: Path) -> RunFolder:
        """Return the folder `path`, begun anew, where no other process has begun this very run there meanwhile."""
        replaces = self.config["existing"] == "rerun"
        if not _is_free(path):
            if not (path / FILE_NAME).is_file():
                raise ConfigError(f"run_dir={path}: there is something else in it; name a new or empty folder")
            if not replaces:
                return self._again_in(path)
        try:
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run_dir={path}: cannot be made ({error.strerror}); name another folder") from error
        with writing(path):
            held = lock(path)
        if not replaces and (path / FILE_NAME).is_file():
            os.close(held)
            return self._again_in(path)
        if replaces:  # all but the lock, which keeps others out
            for entry in [entry for entry in path.iterdir() if entry.name != LOCK]:
                remove(entry)
        remove_torn(path)
        return self._begin(path, held)

    def _again_in(self, path: Path) -> RunFolder:
        """Look once more at `path`, where another process has begun this very run meanwhile, or is another one."""
        there = RunRecord.load(path)
        if there.data["identity"]["sha256"] == self.identity["sha256"]:
            return start(self.config, self.name, self.identity, **self.record)
        parts = differing_parts(there, self.config, self.identity, self.record.get("data", {}))
        raise ConfigError(
            f"run_dir={path}: holds another run ({'; '.join(parts)}); name another folder, or replace it with "
            "existing=rerun"
        )

    def nothing_to_resume(self) -> str:
        """Say why no run is resumed: it is finished, or what the newest of the others differs in, or none is there."""
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
        """Return the records of this very run, the oldest first."""
        folders = [self.exact] if self.exact else self.root.glob(f"{self.run_id}*")
        same = [run for run in readable_records(folders) if run.data["identity"]["sha256"] == self.identity["sha256"]]
        return sorted(same, key=lambda run: str(run.data["started_at"]))

    def _begin(self, path: Path, held: int) -> RunFolder:
        """Return the folder `path`, which this process has locked, with the first files of the run."""
        try:
            made = RunRecord.start(path, run_id=self.run_id, name=self.name, identity=self.identity, **self.record)
            _describe(path, self.config)
        except DiskError:  # nothing has begun: leave nothing behind
            shutil.rmtree(path, ignore_errors=True)
            raise
        return RunFolder(made, lock=held)


def _go_on(path: Path, config: Mapping[str, Any], **record: Any) -> RunFolder:
    """Return the folder of an unfinished run, for this process to write alone."""
    check_own(path)
    with writing(path):
        held = lock(path)
    there = RunRecord.load(path)  # once more: another process may have gone on until now
    if there.data["status"] == "completed":
        os.close(held)
        return RunFolder(there, finished=True)
    then, here = there.data["environment"], record["environment"]
    elsewhere = {key: (then.get(key), value) for key, value in here.items() if then.get(key) != value}
    there.update(environment=here, code=record["code"])
    _describe(path, config)  # what is no part of the identity, such as the devices, may be another
    return RunFolder(there, unfinished=True, elsewhere=elsewhere, lock=held)


def _describe(path: Path, config: Mapping[str, Any]) -> None:
    for name, text in ((CONFIG, plain_yaml.dump(mask_settings(config))), (PACKAGES, packages_text())):
        with replacing(path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def differing_parts(
    then: RunRecord, config: Mapping[str, Any], identity: Mapping[str, Any], data: Mapping[str, Any]
) -> list[str]:
    """Say in which parts that decide a result the run of the record `then` and another one differ.

    Args:
        then: of the run that is there.
        config: the resolved configuration of the other.
        identity: of the other.
        data: the section of the other's record.
    """
    recorded = then.data["identity"]
    parts = [
        f"{_data_file(config, data, split)} has changed since: its digest was {_short(one)} and is {_short(other)}"
        for split, (one, other) in differences(recorded["data_sha256"], identity["data_sha256"]).items()
    ]
    if recorded["weights_sha256"] != identity["weights_sha256"]:
        one, other = recorded["weights_sha256"], identity["weights_sha256"]
        name = config.get("model", {}).get("name", "model")
        parts.append(f"the weights of {name} have changed since: their digest was {_short(one)} and is {_short(other)}")
    if recorded["config_sha256"] != identity["config_sha256"]:
        parts += _differing_settings(then.folder, config)
    return parts


def _differing_settings(folder: Path, config: Mapping[str, Any]) -> list[str]:
    try:
        before = deciding_part(read_config(folder))
    except ConfigError as error:
        return [str(error)]
    keys = [
        f"{key} was {one!r} and is {other!r}"
        for key, (one, other) in differences(before, deciding_part(mask_settings(config))).items()
    ]
    if not keys:  # what the file says now gives this very run, and it is not the one of the record
        return [f"{folder / CONFIG} has changed since the run began"]
    more = [f"{len(keys) - _SETTINGS_TOLD} more settings differ"] if len(keys) > _SETTINGS_TOLD else []
    return [*keys[:_SETTINGS_TOLD], *more]


def _data_file(config: Mapping[str, Any], data: Mapping[str, Any], split: str) -> str:
    """Return the file of a split as the user knows it."""
    file = data.get("splits", {}).get(split, {}).get("file") or f"the {split} split"
    folder = config.get("data", {}).get("source", {}).get("path")
    return str(Path(folder) / file) if folder and Path(folder).is_dir() else str(folder or file)


def _short(digest: Any) -> str:
    return "none" if digest is None else str(digest)[:12]


def _is_free(path: Path) -> bool:
    """Return whether a run may begin in `path`: nothing is there, or nothing but what a killed one has left."""
    if not path.exists():
        return True
    return path.is_dir() and all(_before_the_record(file) for file in path.iterdir())


def _before_the_record(file: Path) -> bool:
    """Return whether `file` is one of a run that was killed before it had a record."""
    return file.name == LOCK or is_torn(file, FILE_NAME)
