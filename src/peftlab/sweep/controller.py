"""The controller of a sweep: it asks the plan, fills the slots, and reports each outcome to plan and board."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from typing import NamedTuple

from peftlab.sweep.board import Trial
from peftlab.sweep.ledger import Cell
from peftlab.sweep.plan import Evaluation
from peftlab.sweep.processes import PackedTrial, TrialProcess, wait_for
from peftlab.sweep.slots import Slot
from peftlab.sweep.trials import Trials
from peftlab.sweep.worker import Order
from peftlab.terminal.signals import Signals

log = logging.getLogger("peftlab")

TICK_SECONDS = 0.5
"""Polling interval for what no process reports: signals, and trials of a dead controller."""


@dataclass
class _Running:
    cell: Cell
    row: Trial
    slot: Slot
    trial: TrialProcess
    counted_until: float
    """The time of the clock up to which its seconds are counted."""
    existing: str
    before: list[object] | None
    """The history of its record when it was started; None: there was none."""


class _Waiting(NamedTuple):
    """A trial that is to start when there is a slot, and others for its process."""

    cell: Cell
    row: Trial
    existing: str


@dataclass(kw_only=True)
class Controller(Trials):
    """Runs each trial in its own process, one per slot, or several alike in one."""

    slots: Sequence[Slot]
    context: ForkServerContext
    command: list[str]
    environment: dict[str, str]
    signals: Signals
    pack: int = 1
    """The largest number of trials in a process."""
    running: list[_Running] = field(default_factory=list, init=False)
    _free: list[Slot] = field(default_factory=list, init=False)
    _waiting: list[_Waiting] = field(default_factory=list, init=False)

    @property
    def devices(self) -> float:
        """Devices per trial."""
        return self.slots[0].share

    def _is_running(self, cell: Cell) -> bool:
        return cell.sha256 in {one.cell.sha256 for one in self.running} | {one.cell.sha256 for one in self._waiting}

    def run(self) -> None:
        """Run until the plan is over or a signal arrives.

        On any other error, such as the death of the process that checks trials, the running trials end first.
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
        """Start trials while slots are free and the plan has any."""
        for cell in [cell for cell in self.delayed if not self.ledger.is_busy(cell)]:
            if self._has_room:
                self.delayed.remove(cell)
                self._take_up(cell)
        while self._has_room and self.signals.pending is None and self._take_up_next():
            pass
        while self._free and self._waiting and self.signals.pending is None:
            self._launch(self._next_pack())

    @property
    def _has_room(self) -> bool:
        return len(self._waiting) < self.pack * len(self._free)

    def _start(self, cell: Cell, row: Trial, existing: str) -> None:
        self._waiting.append(_Waiting(cell, row, existing))
        if self.pack == 1:
            self._launch(self._waiting[-1:])

    def _next_pack(self) -> list[_Waiting]:
        """Return trials for a process, the first of those that fit together in the largest number."""
        packs: dict[object, list[_Waiting]] = {}
        for one in self._waiting:
            packs.setdefault(one.cell.sha256 if one.cell.pack is None else one.cell.pack, []).append(one)
        return max((pack[: self.pack] for pack in packs.values()), key=len)

    def _launch(self, pack: Sequence[_Waiting]) -> None:
        """Start the trials of a pack in one process."""
        slot, orders, before = self._free.pop(0), [], []
        for one in pack:
            earlier = self.ledger.record(one.cell)
            before.append(None if earlier is None else earlier.data["history"])
            self._waiting.remove(one)
            of_the_run = {"sweep_dir": str(self.ledger.folder), "run_dir": None, "existing": one.existing}
            config, output = slot.within(one.cell.config) | of_the_run, self.ledger.output(one.cell.run_id)
            environment = self.environment | slot.environment()
            orders.append(Order(config, self.command, one.cell.overrides, environment, output))
        trials: Sequence[TrialProcess] = (
            [TrialProcess.start(self.context, orders[0])]
            if len(orders) == 1
            else PackedTrial.start_together(self.context, orders)
        )
        for (cell, row, existing), trial, history in zip(pack, trials, before, strict=True):
            row.attempts += 1
            row.state, row.error, row.devices, row.other_code = "running", None, slot.share, False
            self.running.append(_Running(cell, row, slot, trial, time.monotonic(), existing, history))
        self._write(now=True)

    def _listen(self) -> None:
        """Process the messages of running trials, and the trials that have ended."""
        sharing = Counter(id(one.slot) for one in self.running)  # those of one process
        for one in list(self.running):
            ended = one.trial.ended()
            for kind, *values in [] if ended else one.trial.messages():
                one.row.step, one.row.steps = values[:2]
                if kind == "validated":
                    self._validated(one, *values)
            now = time.monotonic()
            one.row.seconds += (now - one.counted_until) / sharing[id(one.slot)]
            one.counted_until = now
            if ended:
                self.running.remove(one)
                if all(other.slot is not one.slot for other in self.running):  # others of its process
                    self._free.append(one.slot)
                self._ended(one)

    def _validated(self, one: _Running, step: int, steps: int, value: float) -> None:
        better = max if one.cell.mode == "max" else min
        if not math.isnan(value):
            one.row.score = value if one.row.score is None else better(one.row.score, value)
        one.trial.answer(self.plan.report(one.cell.proposal, Evaluation(step / steps, value)))

    def _ended(self, one: _Running) -> None:
        cell, row = one.cell, one.row
        record, existing = self.ledger.record(cell), "auto"
        untouched = record is not None and record.data["history"] == one.before
        if record is not None and untouched and (record.data["status"] != "completed" or one.existing != "auto"):
            record, existing = None, one.existing  # what an earlier attempt has written says nothing of this one
        status = record.data["status"] if record else None
        if record is not None and status in ("completed", "pruned"):
            self._settle(cell, row, record)
        elif one.trial.asked_to_end and (record is None or status in ("running", "interrupted")):
            row.state = "interrupted"
        elif status != "failed" and self._is_tried_again(row):
            log.warning("%s: %s; it is tried again", row.run_id, one.trial.how)
            self._start(cell, row, existing)
        else:
            self._failed(cell, row, one.trial.how, record)
        self._write(now=True)

    def _interrupt(self) -> None:
        """Ask the running trials to checkpoint and end, and wait for them."""
        for one in self.running:
            one.trial.ask_to_end()
        log.info("interrupted: %d running trials end with a checkpoint; again to end at once", len(self.running))
        while self.running:
            wait_for([one.trial for one in self.running], TICK_SECONDS)
            self._listen()
            self.show(self.board)

    def _leave(self) -> None:
        """Ask the running trials to checkpoint and end, and wait without processing their messages."""
        left = [one.trial for one in self.running]
        for trial in left:
            trial.ask_to_end()
        while left := [trial for trial in left if not trial.ended()]:
            for trial in left:
                trial.keep_going()
            wait_for(left, TICK_SECONDS)
