"""Where a run is kept: claims the folder, and keeps its record true whether the run ends well, badly or early."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from peftlab.console import log_file
from peftlab.errors import ConfigError
from peftlab.exits import Interrupted
from peftlab.record import FILE_NAME, RunRecord, claim_folder, packages_text, run_id_of

log = logging.getLogger("peftlab")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, and the names of what lies in it."""

    path: Path

    @property
    def best(self) -> Path:
        """The best checkpoint."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def last(self) -> Path:
        """The weights where the run was interrupted."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def predictions(self) -> Path:
        """Predictions of each split, one example a line."""
        return self.path / "predictions"

    @property
    def adapter(self) -> Path:
        """What was trained, to be used again."""
        return self.path / "adapter"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @contextmanager
    def recording(self, record: RunRecord) -> Iterator[RunRecord]:
        """Keep ``log.txt`` and end `record` as completed, interrupted or failed, by how the block is left."""
        with log_file(self.path / "log.txt"):
            log.info("run folder: %s", self.path)
            try:
                yield record
            except (Interrupted, KeyboardInterrupt) as error:
                log.warning("interrupted: the record and the best checkpoint so far are in %s", self.path)
                self._end(record, "interrupted", error)
                raise
            except BaseException as error:
                log.exception("failed: %s", error)
                self._end(record, "failed", error)
                raise
            self._end(record, "completed")

    def _end(self, record: RunRecord, status: Any, error: BaseException | None = None) -> None:
        for file in sorted(self.path.rglob("*")):
            if file.is_file() and file.name not in (FILE_NAME, "log.txt") and not file.name.startswith("."):
                record.add_file(file.relative_to(self.path))
        record.finish(status, error)


def start(
    config: Mapping[str, Any], name: str, identity: Mapping[str, Any], **record: Any
) -> tuple[RunFolder, RunRecord] | RunRecord:
    """Make the run folder with its first files, or return the record of this very run where it should stand.

    Args:
        config: the resolved configuration; ``run_dir`` and ``existing`` say where, and what to do if it is there.
        name: of the run and its like, the folder below ``runs/``.
        identity: the record's section.
        record: further arguments of `RunRecord.start`.

    Raises:
        ConfigError: ``run_dir`` is a folder that holds something else.
    """
    run_id = run_id_of(identity)
    root = Path("runs") / name
    exact = Path(config["run_dir"]) if config["run_dir"] else None
    existing = config["existing"]
    earlier = [exact] if exact else sorted(root.glob(f"{run_id}*"))
    finished = next((r for path in earlier if (r := _completed(path, identity))), None)
    if finished is not None and existing != "rerun" and (exact or existing == "skip"):
        log.info("this very run is finished already: %s (existing=rerun makes it again)", finished.folder)
        return finished
    if exact is None:
        if finished is not None:
            log.info("this very run is finished already: %s; making it again", finished.folder)
        path = claim_folder(root, run_id)
    else:
        path = _exact_folder(exact, replace=existing == "rerun")
    folder = RunFolder(path)
    folder.config.write_text(OmegaConf.to_yaml(dict(config)), encoding="utf-8")
    (path / "packages.txt").write_text(packages_text(), encoding="utf-8")
    return folder, RunRecord.start(path, run_id=run_id, name=name, identity=identity, **record)


def _completed(path: Path, identity: Mapping[str, Any]) -> RunRecord | None:
    """Return the record in `path` where it is that of a completed run of the same identity."""
    if not (path / FILE_NAME).is_file():
        return None
    record = RunRecord.load(path)
    same = record.data["identity"]["sha256"] == identity["sha256"]
    return record if same and record.data["status"] == "completed" else None


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
    path.mkdir(parents=True, exist_ok=True)
    return path
