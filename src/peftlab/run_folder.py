"""Where a run is kept: claims the folder, and keeps its record true whether the run ends well, badly or early."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftlab import checkpoints, plain_yaml
from peftlab.atomic_files import is_torn, remove_torn, replacing
from peftlab.compare import differences
from peftlab.console import VERBATIM, log_file
from peftlab.disk import writing
from peftlab.errors import ConfigError, DiskError
from peftlab.exits import Interrupted, Pruned
from peftlab.locks import LOCK, lock
from peftlab.masking import mask_settings, masked_in
from peftlab.record import FILE_NAME, RunRecord, Status, claim_folder, deciding_part, packages_text, run_id_of
from peftlab.runs import CONFIG, PACKAGES, VERDICTS, read_config
from peftlab.sources import file_sha256

log = logging.getLogger("peftlab")

UNFINISHED = ("running", "interrupted", "failed", "pruned")
"""The statuses of a run that can go on; a killed one is still said to be running."""

_SETTINGS_TOLD = 6
"""How many settings a message names."""

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
        if not self.best.is_file():
            return f"{self.best} is gone"
        return None if file_sha256(self.best) == expected else f"{self.best} is not what was written there"

    @property
    def trail(self) -> Path:
        """What the weights were on the way, see `peftlab.callbacks.trail`."""
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
            ConfigError: there is none, or a setting in it is masked.
        """
        config = read_config(self.path)
        if key := masked_in({section: node for section, node in config.items() if section not in unused}):
            hint = (
                "predictions/*.jsonl beside it have the labels"
                if key.startswith("data.")
                else "or give the command of the run again, which goes on with it"
            )
            raise ConfigError(f"{self.path / CONFIG}: '{key}' was masked as a secret. Write its value there; {hint}")
        return config

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

    def resume(self, sharded: bool = False) -> Path | None:
        """Return the checkpoint that an unfinished run goes on from; None: it begins, or has to begin anew.

        Without the best checkpoint so far a run cannot end, for no later one may be better: it then begins anew, and
        comes to the same result.

        Args:
            sharded: whether the model is shared out among ranks, see `checkpoints.newest_whole`.
        """
        if not self.unfinished:
            return None
        for folder in (self.path, self.checkpoints):
            remove_torn(folder)
        newest = checkpoints.newest_whole(self.checkpoints, sharded)
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
        for file in sorted(self.path.rglob("*")):
            still_written = file.relative_to(self.path).parts[0] in STILL_WRITTEN
            if file.is_file() and not still_written and not checkpoints.belongs(file):
                self.record.add_file(file.relative_to(self.path))
        try:
            self.record.finish(status, error)
        except DiskError as refused:
            if error is None:
                raise
            raise DiskError(f"{error}; nor can the record say so: {refused}") from error


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

    def resume(self, sharded: bool = False) -> None:
        """Leave it to rank 0."""


def elsewhere(name: str, identity: Mapping[str, Any], **record: Any) -> Elsewhere:
    """Return what ranks other than 0 have in place of a run folder; the arguments are those of `start`."""
    nowhere = Path(os.devnull)
    return Elsewhere(Unwritten.start(nowhere, run_id=run_id_of(identity), name=name, identity=identity, **record))


def start(config: Mapping[str, Any], name: str, identity: Mapping[str, Any], **record: Any) -> RunFolder:
    """Make the run folder with its first files, or return the one in which this very run has been begun or completed.

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
    run_id = run_id_of(identity)
    root = Path("runs") / name
    exact = Path(config["run_dir"]) if config["run_dir"] else None
    if exact is None and config.get("sweep_dir"):  # a trial: the same one is always at the same place
        exact = Path(config["sweep_dir"]) / run_id
    existing = config["existing"]
    there = _runs_of(identity, [exact] if exact else root.glob(f"{run_id}*"))
    finished = next((run for run in there if run.data["status"] == "completed"), None)
    if finished is not None and existing != "resume":
        again = existing == "rerun" or not (exact or existing == "skip")
        log.info("this very run is finished already: %s%s", finished.folder, "; making it again" if again else "")
        if not again:
            return RunFolder(finished, finished=True)
    unfinished = next((run for run in reversed(there) if run.data["status"] in UNFINISHED), None)
    if unfinished is not None and existing != "rerun":
        try:
            return _go_on(unfinished.folder, config, **record)
        except DiskError as error:
            raise ConfigError(str(error)) from error
    if existing == "resume":
        raise ConfigError(_nothing_to_resume(finished, exact, root, config, identity, record))
    path: Path | None = None
    try:
        replaces = existing == "rerun"
        path = _exact_folder(exact, replaces, config, identity, record) if exact else claim_folder(root, run_id)
        with writing(path):
            held = lock(path)
        remove_torn(path)
        made = RunRecord.start(path, run_id=run_id, name=name, identity=identity, **record)
        _describe(path, config)
        return RunFolder(made, lock=held)
    except DiskError as error:
        if path is not None:  # nothing has begun: leave nothing behind
            shutil.rmtree(path, ignore_errors=True)
        raise ConfigError(str(error)) from error


def _runs_of(identity: Mapping[str, Any], folders: Iterable[Path]) -> list[RunRecord]:
    """Return the records of this identity in `folders`, the oldest first."""
    there = [RunRecord.load(folder) for folder in folders if (folder / FILE_NAME).is_file()]
    same = [record for record in there if record.data["identity"]["sha256"] == identity["sha256"]]
    return sorted(same, key=lambda record: str(record.data["started_at"]))


def _go_on(path: Path, config: Mapping[str, Any], **record: Any) -> RunFolder:
    """Return the folder of an unfinished run, for this process to write alone."""
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


def _nothing_to_resume(
    finished: RunRecord | None,
    exact: Path | None,
    root: Path,
    config: Mapping[str, Any],
    identity: Mapping[str, Any],
    record: Mapping[str, Any],
) -> str:
    """Say why no run is resumed: it is finished, or others are there, and what the newest differs in, or none is."""
    if finished is not None:
        return f"existing=resume: {finished.folder} is finished: there is nothing to resume; leave existing=resume out"
    others = [RunRecord.load(file.parent) for file in (exact or root).glob(FILE_NAME if exact else f"*/{FILE_NAME}")]
    unfinished = [other for other in others if other.data["status"] in UNFINISHED]
    if not unfinished:
        return f"existing=resume: {exact or root} holds no run that could be resumed; leave existing=resume out"
    newest = max(unfinished, key=lambda other: str(other.data["started_at"]))
    return f"{newest.folder} cannot be resumed as it is another run than this one now: " + "; ".join(
        differing_parts(newest, config, identity, record.get("data", {}))
    )


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


def _exact_folder(
    path: Path, replace: bool, config: Mapping[str, Any], identity: Mapping[str, Any], record: Mapping[str, Any]
) -> Path:
    if path.exists() and not (path.is_dir() and all(_before_the_record(file) for file in path.iterdir())):
        if not (path / FILE_NAME).is_file():
            raise ConfigError(f"run_dir={path}: there is something else in it; name a new or empty folder")
        if not replace:
            parts = differing_parts(RunRecord.load(path), config, identity, record.get("data", {}))
            raise ConfigError(
                f"run_dir={path}: holds another run ({'; '.join(parts)}); name another folder, or replace it with "
                "existing=rerun"
            )
        os.close(lock(path))
        shutil.rmtree(path)
    try:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run_dir={path}: cannot be made ({error.strerror}); name another folder") from error
    return path


def _before_the_record(file: Path) -> bool:
    """Return whether `file` is one of a run that was killed before it had a record."""
    return file.name == LOCK or is_torn(file, FILE_NAME)
