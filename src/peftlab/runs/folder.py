"""The folder of a run: the names of its entries, and how they are read and written. No torch."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftlab.errors import ConfigError, DiskError, UserError
from peftlab.masking.mask import masked_in
from peftlab.reading import plain_yaml
from peftlab.reading.json_form import finite
from peftlab.runs.identity import present_names
from peftlab.runs.record import FILE_NAME, RunRecord
from peftlab.runs.record_form import Status
from peftlab.specs import SECTIONS, packages_of, section
from peftlab.storage import checkpoints
from peftlab.storage.atomic import remove_torn, replacing
from peftlab.storage.digests import file_sha256
from peftlab.storage.disk import writing
from peftlab.storage.entries import FOLDERS, inside, is_plain_folder, taken_by
from peftlab.storage.locks import LOCK, alone
from peftlab.terminal.console import VERBATIM, log_file
from peftlab.terminal.signals import Interrupted, Pruned

log = logging.getLogger("peftlab")

CONFIG, PACKAGES = "config.yaml", "packages.txt"
"""The files next to the record: the resolved configuration, and the installed packages, one per line."""

VERDICTS = "reproduction.json"
"""Also next to the record: the list of verdicts of `peftlab reproduce`, newest last."""

ROBUSTNESS, ENSEMBLE, COMPRESSION, EXPLANATION, DIFFERENCES, FAIRNESS, AUDIT, SLICES = (
    f"{name}.json"
    for name in ("robustness", "ensemble", "compression", "explanation", "diff", "fairness", "audit", "slices")
)
"""The same of what `peftlab robustness`, `ensemble`, `compress`, `explain --faithfulness`, `diff`, `fairness`, `audit`
and `slices` measured."""

BESIDE = (VERDICTS, ROBUSTNESS, ENSEMBLE, COMPRESSION, EXPLANATION, DIFFERENCES, FAIRNESS, AUDIT, SLICES)
"""The lists that are kept next to a record, each of which may grow later."""

STILL_WRITTEN = (FILE_NAME, "log.txt", "tracking", LOCK, *BESIDE)
"""Entries that a finished record does not list, besides checkpoints, which have their digests next to them."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: its record, and the names of its other entries."""

    record: RunRecord
    finished: bool = False
    """Whether this very run was completed before, so that there is nothing to do."""
    unfinished: bool = False
    """Whether this very run was begun before and resumes."""
    elsewhere: Mapping[str, Any] = field(default_factory=dict)
    """The entries of its environment that differ, before and now: bits may differ too."""
    lock: int | None = None
    """The descriptor of the lock file."""
    allow: Sequence[str] = ()
    """The packages whose classes the user lets its configuration name; the configuration's own `allow` does not count.
    """

    @property
    def path(self) -> Path:
        """The folder."""
        return self.record.folder

    @property
    def checkpoints(self) -> Path:
        """The best checkpoint, and those that the run can resume from."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The best checkpoint: the trained parameters."""
        return self.checkpoints / "best.safetensors"

    def damage_of_best(self) -> str | None:
        """Return what is wrong with the best checkpoint; None if it matches the record's selection."""
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
        """Hashes of the weights during training, see `peftlab.training.trail`."""
        return self.path / "trail.jsonl"

    @property
    def predictions(self) -> Path:
        """The predictions of each split, one example per line."""
        return self.path / "predictions"

    @property
    def adapter(self) -> Path:
        """The trained parameters, in the format of the method."""
        return self.path / "adapter"

    def read_config(self, unused: Sequence[str] = ("logger",)) -> dict[str, Any]:
        """Return the resolved configuration.

        Args:
            unused: the sections that may hold masked settings.

        Raises:
            ConfigError: it is missing, masked in part, or not usable, see `check_usable`.
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
        """Check that `config` has the sections of a run, and that its packages are allowed.

        Raises:
            ConfigError: an entry is no section, or a package is not allowed.
        """
        for key in SECTIONS:
            section(config, key, "Put back the file that the run has left there", f"{self.path / CONFIG}: ")
        self.check_allowed(config)

    def check_allowed(self, config: Mapping[str, Any]) -> None:
        """Check that the user allows the packages whose classes `config` names.

        Raises:
            ConfigError: names those that are not allowed, and says how to allow them.
        """
        if packages := [name for name in packages_of(config) if name not in self.allow]:
            options = " ".join(f"--allow {name}" for name in packages)
            raise ConfigError(
                f"{self.path / CONFIG}: the run is made of classes of {', '.join(packages)}, whose code would be run. "
                f"If you trust it, say so: {options} (in Python allow={packages})"
            )

    @contextmanager
    def recording(self, cost: Callable[[], Mapping[str, Any]], keep_every: int | None = None) -> Iterator[RunRecord]:
        """Write ``log.txt``, and end the record as completed, interrupted, pruned or failed, by how the block ends.

        Args:
            cost: called at the end for the record's section.
            keep_every: a completed run keeps the checkpoints at multiples of this many optimiser steps.
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
                checkpoints.prune(self.checkpoints, last=1, every=keep_every)  # makes room for the record
                self._end("completed", None, cost())
                # not before: a run that is killed by then, or whose record finds no room, need not train again
                checkpoints.prune(self.checkpoints, last=0, every=keep_every)
            finally:
                if self.lock is not None:
                    os.close(self.lock)

    def resume(self, sharded: bool = False, unfit: Callable[[Path], str | None] | None = None) -> Path | None:
        """Return the checkpoint that an unfinished run resumes from; None: it starts from the beginning.

        Without its best checkpoint so far a run cannot finish, because no later one may be better: it then starts from
        the beginning, with the same result.

        Args:
            sharded: whether the model is sharded, see `checkpoints.newest_whole`.
            unfit: which checkpoints are skipped, see there.
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
        """List the files of the folder, with their digests, in the record; links are not listed."""
        passed_over = []
        for entry in sorted(self.path.rglob("*")):
            name = entry.relative_to(self.path)
            if name.parts[0] in STILL_WRITTEN or checkpoints.belongs(entry) or is_plain_folder(entry):
                continue
            try:
                if (odd := taken_by(entry, stat.S_IFREG)) is None:
                    self.record.add_file(name)
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError as error:
                odd = f"cannot be read: {error.strerror}"
            if odd is not None:
                passed_over.append(f"{name} ({odd})")
        if passed_over:
            log.info("not listed in the record: %s", ", ".join(passed_over))


def keep_beside(folder: Path, name: str, document: Mapping[str, Any]) -> bool:
    """Append `document` to the list in the file `name` of a run's folder; return whether it is kept.

    Numbers that are not finite, which JSON lacks, become null. Of several processes that keep something there at once,
    each waits for the one before.

    A failure to write is only logged, because what was found is valid without it.
    """
    file = folder / name
    try:
        with writing(file), alone(folder, name):
            earlier = json.loads(inside(folder, file).read_text(encoding="utf-8")) if file.is_file() else []
            with replacing(file) as temporary:
                text = json.dumps(finite([*earlier, document]), indent=2, ensure_ascii=False, allow_nan=False)
                temporary.write_text(text + "\n", encoding="utf-8")
    except (OSError, DiskError, UserError, ValueError, TypeError, RecursionError) as error:
        log.warning("%s: what was found cannot be kept there: %s", file, error)
        return False
    return True


def read_config(folder: Path) -> dict[str, Any]:
    """Return the resolved configuration of the run in `folder`, with the present names of keys and classes.

    Raises:
        ConfigError: it is missing or cannot be read.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file; is {folder} a whole run folder?")
    with plain_yaml.reading(file):
        config = plain_yaml.load(inside(folder, file).read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ConfigError(f"{file}: expected keys and values. Put back the file that the run has left there")
    return present_names({str(key): value for key, value in config.items()})


def read_predictions(file: Path) -> list[dict[str, Any]]:
    """Return the predictions in a file of a run, one per line; only a line feed ends a line.

    Raises:
        OSError, ValueError: it cannot be read, or a line is no JSON object.
    """
    return list(each_prediction(file))


def each_prediction(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the predictions in a file of a run, as `read_predictions` returns them."""
    with file.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if not (content := line.removesuffix("\n")):
                continue
            try:
                row = json.loads(content)
            except RecursionError:
                raise ValueError(f"{file.name} is nested too deeply") from None
            if not isinstance(row, dict):
                raise ValueError(f"{file.name} holds a line that is no JSON object")
            yield row
