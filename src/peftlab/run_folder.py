"""Where a run is kept: claims the folder, and keeps its record true whether the run ends well, badly or early."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from torch import Tensor

from peftlab.console import log_file
from peftlab.disk import writing
from peftlab.errors import ConfigError, DiskError
from peftlab.exits import Interrupted
from peftlab.masking import mask
from peftlab.record import FILE_NAME, RunRecord, claim_folder, packages_text, run_id_of
from peftlab.runs import CONFIG, PACKAGES, read_config
from peftlab.tensor_files import save

log = logging.getLogger("peftlab")

STILL_WRITTEN = (FILE_NAME, "log.txt", "tracking")
"""What the list of files in a finished record leaves out."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: its record, and the names of what lies beside it."""

    record: RunRecord
    finished: bool = False
    """Whether this very run had been completed before, so that there is nothing to do."""

    @property
    def path(self) -> Path:
        """The folder."""
        return self.record.folder

    @property
    def best(self) -> Path:
        """The best checkpoint."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def last(self) -> Path:
        """The weights where the run was interrupted."""
        return self.path / "checkpoints" / "last.safetensors"

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

    def read_config(self) -> dict[str, Any]:
        """Return the resolved configuration.

        Raises:
            ConfigError: there is none.
        """
        return read_config(self.path)

    @contextmanager
    def recording(self, cost: Callable[[], Mapping[str, Any]]) -> Iterator[RunRecord]:
        """Keep ``log.txt``, and end the record as completed, interrupted or failed, by how the block is left.

        Args:
            cost: asked at the end for the record's section.
        """
        with log_file(self.path / "log.txt"):
            log.info("run folder: %s", self.path)
            try:
                yield self.record
            except (Interrupted, KeyboardInterrupt) as error:
                log.warning("interrupted (%s): the record and the weights so far are in %s", error, self.path)
                self._end("interrupted", error, cost())
                raise
            except BaseException as error:
                log.error("failed: %s: %s; the record is in %s", type(error).__name__, error, self.path)
                self._end("failed", error, cost())
                raise
            self._end("completed", None, cost())

    @contextmanager
    def keeping_last(self, weights: Callable[[], Mapping[str, Tensor]]) -> Iterator[None]:
        """Save what `weights` returns where the block is interrupted."""
        try:
            yield
        except (Interrupted, KeyboardInterrupt):
            self._keep(weights())
            raise

    def _keep(self, weights: Mapping[str, Tensor]) -> None:
        save(weights, self.last)

    def _end(self, status: Literal["completed", "interrupted", "failed"], error: Any, cost: Mapping[str, Any]) -> None:
        self.record.update(cost=cost)
        for file in sorted(self.path.rglob("*")):
            if file.is_file() and file.relative_to(self.path).parts[0] not in STILL_WRITTEN:
                self.record.add_file(file.relative_to(self.path))
        try:
            self.record.finish(status, error)
        except DiskError as refused:
            if error is None:
                raise
            raise DiskError(f"{error}; nor can the record say so: {refused}") from error


class _Unwritten(RunRecord):
    """A record that no file holds."""

    def write(self) -> None:
        """Write nothing."""


class Elsewhere(RunFolder):
    """The run folder for ranks other than 0: it is somewhere else, and whatever would be written there fails."""

    @contextmanager
    def recording(self, cost: Callable[[], Mapping[str, Any]]) -> Iterator[RunRecord]:
        """Leave the recording to rank 0."""
        yield self.record

    def _keep(self, weights: Mapping[str, Tensor]) -> None:
        """Leave it to rank 0, which could not have put the weights together alone."""


def elsewhere(name: str, identity: Mapping[str, Any], **record: Any) -> Elsewhere:
    """Return what ranks other than 0 have in place of a run folder; the arguments are those of `start`."""
    nowhere = Path(os.devnull)
    return Elsewhere(_Unwritten.start(nowhere, run_id=run_id_of(identity), name=name, identity=identity, **record))


def start(config: Mapping[str, Any], name: str, identity: Mapping[str, Any], **record: Any) -> RunFolder:
    """Make the run folder with its first files, or return the one in which this very run has been completed.

    Args:
        config: the resolved configuration; ``run_dir`` and ``existing`` say where, and what to do if it is there.
        name: of the run and its like, the folder below ``runs/``.
        identity: the record's section.
        record: what else `RunRecord.start` takes.

    Raises:
        ConfigError: ``run_dir`` holds something else, or the folder cannot be made and written to.
    """
    run_id = run_id_of(identity)
    root = Path("runs") / name
    exact = Path(config["run_dir"]) if config["run_dir"] else None
    existing = config["existing"]
    finished = _completed([exact] if exact else sorted(root.glob(f"{run_id}*")), identity)
    if finished is not None:
        again = existing == "rerun" or not (exact or existing == "skip")
        log.info("this very run is finished already: %s%s", finished.folder, "; making it again" if again else "")
        if not again:
            return RunFolder(finished, finished=True)
    path: Path | None = None
    try:
        path = _exact_folder(exact, replace=existing == "rerun") if exact else claim_folder(root, run_id)
        with writing(path):
            (path / CONFIG).write_text(OmegaConf.to_yaml(mask(dict(config))), encoding="utf-8")
            (path / PACKAGES).write_text(packages_text(), encoding="utf-8")
        return RunFolder(RunRecord.start(path, run_id=run_id, name=name, identity=identity, **record))
    except DiskError as error:
        if path is not None:  # nothing has begun: leave nothing behind
            shutil.rmtree(path, ignore_errors=True)
        raise ConfigError(str(error)) from error


def _completed(folders: Iterable[Path], identity: Mapping[str, Any]) -> RunRecord | None:
    """Return the record of a completed run of this identity in one of `folders`."""
    for folder in folders:
        if (folder / FILE_NAME).is_file():
            record = RunRecord.load(folder)
            if record.data["identity"]["sha256"] == identity["sha256"] and record.data["status"] == "completed":
                return record
    return None


def _exact_folder(path: Path, replace: bool) -> Path:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not (path / FILE_NAME).is_file():
            raise ConfigError(f"run_dir={path}: there is something else in it; name a new or empty folder")
        if not replace:
            raise ConfigError(
                f"run_dir={path}: holds another run, or one that did not finish; "
                "name another folder, or replace it with existing=rerun"
            )
        shutil.rmtree(path)
    try:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run_dir={path}: cannot be made ({error.strerror}); name another folder") from error
    return path
