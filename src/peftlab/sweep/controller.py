"""The controller of a sweep: asks the plan, fills the slots, and tells plan and board how each trial went."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerContext

from peftlab.errors import DiskError, UserError
from peftlab.exits import Signals
from peftlab.record import RunRecord
from peftlab.sweep.board import SWEEP, TRIALS, Board, Trial
from peftlab.sweep.cells import Cells
from peftlab.sweep.ledger import Cell, Ledger, outcome
from peftlab.sweep.plan import Evaluation, Outcome, Plan, Proposal
from peftlab.sweep.processes import TrialProcess, wait_for
from peftlab.sweep.slots import Slot
from peftlab.sweep.spec import Reuse
from peftlab.sweep.worker import Order

log = logging.getLogger("peftlab")

TICK_SECONDS = 0.5
"""Between looks at what no process tells: signals, trials of a controller that has died."""
WRITE_SECONDS = 2.0
"""Between writings of the board while nothing but progress changes."""


@dataclass
class _Running:
    cell: Cell
    row: Trial
    slot: Slot
    trial: TrialProcess
    began: float
    spent_before: float
    """Seconds that the row had when this attempt began."""


@dataclass
class Controller:
    """Runs the trials of a plan to the end; the folders of trials, and the ledger over them, are all that lasts."""

    plan: Plan
    cells: Cells
    ledger: Ledger
    board: Board
    slots: Sequence[Slot]
    context: ForkServerContext
    command: list[str]
    environment: dict[str, str]
    signals: Signals
    show: Callable[[Board], None]
    """Draws the board, whenever something may have changed."""
    reuse: Reuse = "always"
    retries: int = 0
    """How often a trial that died is started again at once."""
    running: list[_Running] = field(default_factory=list, init=False)
    delayed: list[Cell] = field(default_factory=list, init=False)
    """Trials that a process of an earlier controller still writes."""
    _free: list[Slot] = field(default_factory=list, init=False)
    _rows: dict[str, Trial] = field(default_factory=dict, init=False)
    _written: float = field(default=0.0, init=False)
    _refused: bool = field(default=False, init=False)
    """Whether the board could not be written the last time."""

    def register(self, cell: Cell) -> Trial:
        """Return the row of a trial, which is made where there is none yet."""
        row = self._rows.get(cell.sha256)
        if row is None:
            row = Trial(list(cell.proposal.overrides), {}, cell.run_id, str(self.ledger.path(cell)), metric=cell.metric)
            self._rows[cell.sha256] = row
            self.board.trials.append(row)
        row.labels = dict(cell.proposal.labels)
        row.devices = self.slots[0].share if self.slots else 1.0
        return row

    def cell_of_record(self, record: RunRecord) -> Cell | None:
        """Return the cell that a run was, where the plan might propose it."""
        proposal = self.cells.proposal_of(record.data["overrides"])
        if proposal is None or not self.plan.covers(proposal):
            return None
        try:
            cell = self.cells(proposal)
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

    def run(self) -> None:
        """Run until the plan is over, or a signal asks for an end.

        Whatever else ends it, such as a process that checks trials and has died, lets the running trials end first.
        """
        self._free = list(self.slots)
        try:
            self._work()
        except BaseException as error:
            log.error("the sweep cannot go on (%s): its running trials end with a checkpoint", type(error).__name__)
            self._leave()
            raise
        failed = any(trial.state == "failed" for trial in self.board.trials)
        interrupted = self.signals.pending is not None
        self.board.status = "interrupted" if interrupted else "failed" if failed else "completed"

    def _work(self) -> None:
        while True:
            if self.signals.pending is not None:
                self._interrupt()
                break
            self._fill()
            self._write(now=False)
            if not self.running and not self.delayed:
                break
            wait_for([one.trial for one in self.running], TICK_SECONDS)
            self._listen()

    def _fill(self) -> None:
        """Start trials as long as there are free slots and something to run."""
        for cell in [cell for cell in self.delayed if not self.ledger.is_busy(cell)]:
            if self._free:
                self.delayed.remove(cell)
                self._take_up(cell)
        while self._free and self.signals.pending is None and self._take_up_next():
            pass

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
        if self.ledger.is_busy(cell) or any(one.cell.sha256 == cell.sha256 for one in self.running):
            self.delayed.append(cell)
        elif record is not None and row.attempts == 0 and self.is_to_be_repeated(record):
            row.seconds = 0.0
            self._start(cell, row, "rerun")
        elif record is not None and record.data["status"] == "completed":
            self._settle(cell, row, record)
        else:
            row.seconds = (record.data["cost"]["wall_seconds"] or 0.0) if record is not None else 0.0
            self._start(cell, row, "auto")

    def _start(self, cell: Cell, row: Trial, existing: str) -> None:
        slot = self._free.pop(0)
        of_the_run = {"sweep_dir": str(self.ledger.folder), "run_dir": None, "existing": existing}
        config = slot.within(cell.config) | of_the_run
        output = self.ledger.output(cell.run_id)
        order = Order(config, self.command, cell.overrides, self.environment | slot.environment(), output)
        trial = TrialProcess.start(self.context, order)
        row.attempts += 1
        row.state, row.error, row.devices, row.other_code = "running", None, slot.share, False
        self.running.append(_Running(cell, row, slot, trial, time.monotonic(), row.seconds))
        self._write(now=True)

    def _listen(self) -> None:
        """Take up what the running trials tell, and which of them have ended."""
        for one in list(self.running):
            ended = one.trial.ended()
            for kind, *what in [] if ended else one.trial.messages():
                one.row.step, one.row.steps = what[:2]
                if kind == "validated":
                    self._validated(one, *what)
            one.row.seconds = one.spent_before + time.monotonic() - one.began
            if ended:
                self.running.remove(one)
                self._free.append(one.slot)
                self._ended(one)

    def _validated(self, one: _Running, step: int, steps: int, value: float) -> None:
        better = max if one.cell.mode == "max" else min
        if not math.isnan(value):
            one.row.score = value if one.row.score is None else better(one.row.score, value)
        one.trial.answer(self.plan.report(one.cell.proposal, Evaluation(step / steps, value)))

    def _ended(self, one: _Running) -> None:
        cell, row = one.cell, one.row
        record = self.ledger.record(cell)
        status = record.data["status"] if record else None
        if record is not None and status in ("completed", "pruned"):
            self._settle(cell, row, record)
        elif one.trial.asked_to_end and (record is None or status in ("running", "interrupted")):
            row.state = "interrupted"
        elif status != "failed" and row.attempts <= self.retries:
            log.warning("%s: %s; it is tried again", row.run_id, one.trial.how)
            self._start(cell, row, "auto")
        else:
            self._failed(cell, row, one.trial.how, record)
        self._write(now=True)

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

    def _interrupt(self) -> None:
        """Have the running trials end with their checkpoints, and wait for them."""
        for one in self.running:
            one.trial.ask_to_end()
        log.info("interrupted: %d running trials end with a checkpoint; again to end at once", len(self.running))
        while self.running:
            wait_for([one.trial for one in self.running], TICK_SECONDS)
            self._listen()
            self.show(self.board)

    def _leave(self) -> None:
        """Have the running trials end with their checkpoints; nothing is told of them any more."""
        left = [one.trial for one in self.running]
        for trial in left:
            trial.ask_to_end()
        while left := [trial for trial in left if not trial.ended()]:
            for trial in left:
                trial.keep_going()
            wait_for(left, TICK_SECONDS)

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
    data = record.data
    row.state, row.values, row.error = found.status, list(found.values), None
    row.seconds = found.seconds
    progress(row, record, found)
    tested = [m for m in data["metrics"] if m["split"] == "test" and m["name"] == data["selection"]["metric"]]
    row.test = tested[0]["value"] if tested else None


def progress(row: Trial, record: RunRecord, found: Outcome) -> None:
    """Write into the row of a trial how far its record says that it has come."""
    row.score, row.step = record.data["selection"]["value"], found.steps
    row.steps = next((event["of"] for event in reversed(record.data["history"]) if "of" in event), row.steps)
