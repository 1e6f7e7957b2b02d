"""The ledger of a sweep: the run records of its trials, the only source of truth, with one controller at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal, Self

from peftlab.errors import ConfigError, UserError
from peftlab.runs.environment import code_state
from peftlab.runs.find import readable_records
from peftlab.runs.identity import run_id_of
from peftlab.runs.record import FILE_NAME, RunRecord
from peftlab.storage.locks import is_locked, lock
from peftlab.sweep.plan import Evaluation, Outcome, Proposal

SELECTION = "selection.value"
"""The default objective of a sweep: the score that selects each run's best checkpoint."""


@dataclass(frozen=True)
class Cell:
    """A trial, composed and checked."""

    proposal: Proposal
    config: dict[str, Any]
    """Composed, as plain values."""
    overrides: list[str]
    """Everything a user would type to run it alone."""
    sha256: str
    """Digest of the run identity."""
    metric: str
    mode: str
    """``max`` or ``min``, for the metric."""
    pack: str | None = None
    """Equal for cells whose runs may be computed together; None: only alone."""

    @property
    def run_id(self) -> str:
        """The start of the digest; names the run folder."""
        return run_id_of({"sha256": self.sha256})


class Ledger:
    """The run folders of a sweep; as a context manager, it holds the lock on the sweep folder.

    Args:
        folder: created if missing.
        look_only: neither create nor lock the folder.

    Raises:
        ConfigError: another controller holds the lock, or the folder cannot be created.
    """

    def __init__(self, folder: Path, look_only: bool = False) -> None:
        self.folder = folder
        self._lock: int | None = None
        self._code = code_state()
        if look_only:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(folder, "sweep")
        except OSError as error:
            raise ConfigError(f"sweep_dir={folder}: cannot be written to ({error.strerror}); name another") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def path(self, cell: Cell) -> Path:
        """Return the run folder of the trial."""
        return self.folder / cell.run_id

    def output(self, run_id: str) -> Path:
        """Return the file that receives the trial's output."""
        return output_of(self.folder, run_id)

    def record(self, cell: Cell) -> RunRecord | None:
        """Return the record of the trial; None before it begins.

        Raises:
            UserError: the folder holds another run.
        """
        if not (self.path(cell) / FILE_NAME).is_file():
            return None
        record = RunRecord.load(self.path(cell))
        if record.data["identity"]["sha256"] != cell.sha256:
            raise UserError(f"{record.folder}: holds another run than its name says; move it away")
        return record

    def is_busy(self, cell: Cell) -> bool:
        """Return whether a process, perhaps one of a dead controller, is writing the trial."""
        return is_locked(self.path(cell))

    def end_dead(self, record: RunRecord, how: str) -> None:
        """Mark the record of a dead run as failed."""
        if record.data["status"] == "running":
            record.finish("failed", {"type": "Died", "message": how})

    def by_other_code(self, record: RunRecord) -> bool:
        """Return whether another version of the code made the run."""
        return bool(record.data["code"] != self._code)

    def records(self) -> Iterator[RunRecord]:
        """Yield every readable record, oldest first."""
        folders = (file.parent for file in self.folder.glob(f"*/{FILE_NAME}"))
        yield from sorted(readable_records(folders), key=lambda record: str(record.data["started_at"]))


def output_of(folder: Path, run_id: str) -> Path:
    """Return the file for the output of a trial of the sweep in `folder`."""
    return folder / "output" / f"{run_id}.txt"


def outcome(record: RunRecord, objectives: Sequence[str]) -> Outcome:
    """Return the outcome of a run."""
    data = record.data
    values = tuple(value_at(data, key) for key in objectives)
    status: Literal["completed", "failed", "pruned"] = "failed"
    if data["status"] == "pruned" or (data["status"] == "completed" and all(map(math.isfinite, values))):
        status = data["status"]
    steps = data["cost"]["steps"] or max((event["step"] for event in record.events() if "step" in event), default=0)
    return Outcome(status, values if status != "failed" else (), evaluations(record), steps, seconds_on_device(record))


def seconds_on_device(record: RunRecord) -> float:
    """Return how long a run had its device, 0 if that is not known; see `RunRecord.seconds_on_device`."""
    return record.seconds_on_device() or 0.0


def evaluations(record: RunRecord) -> tuple[Evaluation, ...]:
    """Return the validations during training in step order; a repeated one counts once."""
    by_step = {
        event["step"]: Evaluation(event["step"] / event["of"], _number(event.get(record.data["selection"]["metric"])))
        for event in record.events("validated")
        if event.get("of")
    }
    return tuple(by_step[step] for step in sorted(by_step))


def value_at(data: Mapping[str, Any], key: str) -> float:
    """Return the number at a dotted key of a record; nan if there is none."""
    try:
        return _number(reduce(lambda node, part: node[part], key.split("."), data))
    except (LookupError, TypeError):
        return math.nan


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
