"""The trials of a plan, in the records and on the board; how they are run is another matter."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from peftlab.errors import DiskError, UserError
from peftlab.runs.record import RunRecord
from peftlab.sweep.board import SWEEP, TRIALS, Board, Trial
from peftlab.sweep.cells import Cells
from peftlab.sweep.ledger import Cell, Ledger, outcome
from peftlab.sweep.plan import Outcome, Plan, Proposal
from peftlab.sweep.spec import Reuse

log = logging.getLogger("peftlab")

WRITE_SECONDS = 2.0
"""Between writings of the board while nothing but progress changes."""


@dataclass(kw_only=True)
class Trials(ABC):
    """Runs the trials of a plan to the end; the folders of trials, and the ledger over them, are all that lasts."""

    plan: Plan
    cells: Cells
    ledger: Ledger
    board: Board
    show: Callable[[Board], None]
    """Draws the board, whenever something may have changed."""
    reuse: Reuse = "always"
    retries: int = 0
    """How often a trial that died is started again at once."""
    delayed: list[Cell] = field(default_factory=list, init=False)
    """Trials that a process of an earlier command still writes."""
    _rows: dict[str, Trial] = field(default_factory=dict, init=False)
    _written: float = field(default=0.0, init=False)
    _refused: bool = field(default=False, init=False)
    """Whether the board could not be written the last time."""

    @abstractmethod
    def run(self) -> None:
        """Run until the plan is over."""

    @abstractmethod
    def _start(self, cell: Cell, row: Trial, existing: str) -> None:
        """Have a trial run, with what becomes of an earlier attempt (`existing`)."""

    def _is_running(self, cell: Cell) -> bool:
        """Return whether a trial is being run here."""
        return False

    @property
    def devices(self) -> float:
        """How many devices a trial has."""
        return 1.0

    def register(self, cell: Cell) -> Trial:
        """Return the row of a trial, which is made where there is none yet."""
        row = self._rows.get(cell.sha256)
        if row is None:
            row = Trial(list(cell.proposal.overrides), {}, cell.run_id, str(self.ledger.path(cell)), metric=cell.metric)
            self._rows[cell.sha256] = row
            self.board.trials.append(row)
        row.labels = dict(cell.proposal.labels)
        row.devices = self.devices
        return row

    def cell_of_record(self, record: RunRecord) -> Cell | None:
        """Return the cell that a run was, where the plan might propose it."""
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
        """Return whether a run of an earlier command is made once more from its beginning."""
        if self.reuse == "never":
            return record.data["status"] in ("completed", "pruned")
        return self.reuse == "same_code" and self.ledger.by_other_code(record)

    def keep(self, cell: Cell, record: RunRecord) -> Outcome:
        """Take up a trial of the past, and return how it had ended."""
        row = self.register(cell)
        found = outcome(record, list(self.board.objectives))
        fill_in(row, record, found)
        row.kept, row.other_code = found.status == "completed", self.ledger.by_other_code(record)
        return found

    def _take_up_next(self) -> bool:
        """Take up what the plan proposes; return whether it proposes anything."""
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
        """Settle a trial: it is done already, waits for a process of the past, or starts."""
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
            row.seconds = (record.data["cost"]["wall_seconds"] or 0.0) if record is not None else 0.0
            self._start(cell, row, "auto")

    def _failed(self, cell: Cell, row: Trial, how: str, record: RunRecord | None) -> None:
        """Take up a trial that has failed, and has ended as `how` says where its record says nothing."""
        if record is not None:
            self.ledger.end_dead(record, how)
        row.state, row.error = "failed", self._reason(cell, how, record)
        log.warning("%s failed (%s): %s", row.run_id, " ".join(row.overrides), row.error)
        found = Outcome("failed", ()) if record is None else outcome(record, list(self.board.objectives))
        # what died has not said how long it took; a budget of hours is to come to its end all the same
        self.plan.tell(cell.proposal, replace(found, seconds=max(found.seconds, row.seconds)))

    def _settle(self, cell: Cell, row: Trial, record: RunRecord) -> None:
        """Take up a trial that is completed or pruned."""
        found = outcome(record, list(self.board.objectives))
        fill_in(row, record, found)
        if found.status == "failed":
            row.error = f"no finite {', '.join(self.board.objectives)} in the record"
        self.plan.tell(cell.proposal, found)

    def _refuse(self, proposal: Proposal, error: UserError, row: Trial | None = None) -> None:
        """Take up a trial that cannot be begun."""
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
        """Write the board, and show it; no trial is lost where a full disk refuses it, nor is what was known."""
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


def fill_in(row: Trial, record: RunRecord, found: Outcome) -> None:
    """Write into the row of a trial what its record says."""
    row.state, row.values, row.error = found.status, list(found.values), None
    row.seconds = found.seconds
    progress(row, record, found)
    row.test = record.score("test", record.data["selection"]["metric"])


def progress(row: Trial, record: RunRecord, found: Outcome) -> None:
    """Write into the row of a trial how far its record says that it has come."""
    row.score, row.step = record.data["selection"]["value"], found.steps
    row.steps = next((event["of"] for event in reversed(record.events()) if "of" in event), row.steps)
