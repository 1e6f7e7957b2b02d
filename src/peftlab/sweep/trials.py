"""Tracks the trials of a plan in the records and on the board; subclasses run them."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from peftlab.errors import DiskError, UserError
from peftlab.runs.record import RunRecord
from peftlab.sweep.board import SWEEP, TRIALS, Board, Trial
from peftlab.sweep.cells import Cells
from peftlab.sweep.ledger import Cell, Ledger, outcome, seconds_on_device
from peftlab.sweep.plan import Outcome, Plan, Proposal
from peftlab.sweep.spec import Reuse

log = logging.getLogger("peftlab")

WRITE_SECONDS = 2.0
"""Interval of board writes while only progress changes."""


@dataclass(kw_only=True)
class Trials(ABC):
    """Runs the trials of a plan; only the run folders, read through the ledger, persist."""

    plan: Plan
    cells: Cells
    ledger: Ledger
    board: Board
    show: Callable[[Board], None]
    """Draws the board; called whenever it may have changed."""
    reuse: Reuse = "always"
    retries: int = 0
    """Immediate restarts of a trial that died."""
    delayed: list[Cell] = field(default_factory=list, init=False)
    """Trials that a process of an earlier command is still writing."""
    _rows: dict[str, Trial] = field(default_factory=dict, init=False)
    _deaths: Counter[str] = field(default_factory=Counter, init=False)
    """By run id. Attempts are others: a trial that a search promotes starts anew, too."""
    _written: float = field(default=0.0, init=False)
    _refused: bool = field(default=False, init=False)
    """Whether the last write of the board failed."""

    @abstractmethod
    def run(self) -> None:
        """Run until the plan is over."""

    @abstractmethod
    def _start(self, cell: Cell, row: Trial, existing: str) -> None:
        """Start a trial; `existing` says how to treat an earlier attempt."""

    def _is_running(self, cell: Cell) -> bool:
        """Return whether this controller is running a trial."""
        return False

    @property
    def devices(self) -> float:
        """Devices per trial."""
        return 1.0

    def register(self, cell: Cell) -> Trial:
        """Return the row of a trial, created if missing."""
        row = self._rows.get(cell.sha256)
        if row is None:
            row = Trial(list(cell.proposal.overrides), {}, cell.run_id, str(self.ledger.path(cell)), metric=cell.metric)
            self._rows[cell.sha256] = row
            self.board.trials.append(row)
        row.labels = dict(cell.proposal.labels)
        row.devices = self.devices
        return row

    def cell_of_record(self, record: RunRecord) -> Cell | None:
        """Return the cell of a recorded run; None if the plan would not propose it."""
        proposal = self.cells.proposal_of(record.data["overrides"])
        labels = None if proposal is None else self.plan.labels_of(proposal)
        if proposal is None or labels is None:
            return None
        try:
            cell = self.cells(replace(proposal, labels=labels))
        except UserError:
            return None
        return cell if cell.sha256 == record.data["identity"]["sha256"] else None

    def is_to_be_repeated(self, record: RunRecord) -> bool:
        """Return whether to repeat a run of an earlier command from the start."""
        if self.reuse == "never":
            return record.data["status"] in ("completed", "pruned")
        return self.reuse == "same_code" and self.ledger.by_other_code(record)

    def keep(self, cell: Cell, record: RunRecord) -> Outcome:
        """Add the row of an earlier trial, and return its outcome."""
        row = self.register(cell)
        past = outcome(record, list(self.board.objectives))
        fill_in(row, record, past)
        row.kept, row.other_code = past.status == "completed", self.ledger.by_other_code(record)
        return past

    def _take_up_next(self) -> bool:
        """Process the next proposal of the plan; return whether there was one."""
        proposal = self.plan.ask()
        if proposal is None:
            return False
        try:
            cell = self.cells(proposal)
        except UserError as error:
            self._refuse(proposal, error)
        else:
            self._take_up(cell)
        return True

    def _take_up(self, cell: Cell) -> None:
        """Settle a completed trial, delay one that another process is writing, or start it."""
        row = self.register(cell)
        try:
            record = self.ledger.record(cell)
        except UserError as error:
            self._refuse(cell.proposal, error, row)
            return
        if self.ledger.is_busy(cell) or self._is_running(cell):
            self.delayed.append(cell)
        elif record is not None and row.attempts == 0 and self.is_to_be_repeated(record):
            row.seconds = 0.0
            self._start(cell, row, "rerun")
        elif record is not None and record.data["status"] == "completed":
            self._settle(cell, row, record)
        else:
            row.seconds = seconds_on_device(record) if record is not None else 0.0
            self._start(cell, row, "auto")

    def _is_tried_again(self, row: Trial) -> bool:
        """Count the death of a trial; return whether it is started once more."""
        self._deaths[row.run_id] += 1
        return self._deaths[row.run_id] <= self.retries

    def _failed(self, cell: Cell, row: Trial, how: str, record: RunRecord | None) -> None:
        """Report a failed trial; `how` is the reason if its record has none."""
        if record is not None:
            self.ledger.end_dead(record, how)
        row.state, row.error = "failed", self._reason(cell, how, record)
        log.warning("%s failed (%s): %s", row.run_id, " ".join(row.overrides), row.error)
        result = Outcome("failed", ()) if record is None else outcome(record, list(self.board.objectives))
        # a dead run recorded no duration, but it must count towards a budget of hours
        self.plan.tell(cell.proposal, replace(result, seconds=max(result.seconds, row.seconds)))

    def _settle(self, cell: Cell, row: Trial, record: RunRecord) -> None:
        """Report a completed or pruned trial."""
        result = outcome(record, list(self.board.objectives))
        fill_in(row, record, result)
        if result.status == "failed":
            row.error = f"no finite {', '.join(self.board.objectives)} in the record"
        self.plan.tell(cell.proposal, result)

    def _refuse(self, proposal: Proposal, error: UserError, row: Trial | None = None) -> None:
        """Report a trial that cannot start."""
        if row is None:
            row = Trial(list(proposal.overrides), dict(proposal.labels), "-", "")
            self.board.trials.append(row)
        row.state, row.error = "failed", str(error)
        log.warning("cannot be run (%s): %s", " ".join(proposal.overrides), error)
        self.plan.tell(proposal, Outcome("failed", ()))

    def _reason(self, cell: Cell, how: str, record: RunRecord | None) -> str:
        error = record.data["error"] if record is not None else None
        if error:
            return f"{error['type']}: {error['message']}"
        output = self.ledger.output(cell.run_id)
        lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines() if output.exists() else []
        return f"{how}; {lines[-1]}" if lines else how

    def _write(self, now: bool) -> None:
        """Write and show the board; a full disk costs no trial and keeps the last version."""
        if now or time.monotonic() - self._written > WRITE_SECONDS:
            try:
                self.board.write()
            except (OSError, DiskError) as error:
                if not self._refused:
                    log.warning("%s and %s are not current: %s", SWEEP, TRIALS, error)
                self._refused = True
            else:
                self._refused = False
            self._written = time.monotonic()
        self.show(self.board)


def fill_in(row: Trial, record: RunRecord, result: Outcome) -> None:
    """Fill the row of a finished trial from its record."""
    row.state, row.values, row.error = result.status, list(result.values), None
    row.seconds = result.seconds
    progress(row, record, result)
    row.test = record.score("test", record.data["selection"]["metric"])


def progress(row: Trial, record: RunRecord, result: Outcome) -> None:
    """Update score and steps in the row of a trial from its record."""
    row.score, row.step = record.data["selection"]["value"], result.steps
    row.steps = next((event["of"] for event in reversed(record.events()) if "of" in event), row.steps)
