"""Records of trials, and a controller whose trials are scripted instead of trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.runs.record import RunRecord
from peftlab.sweep.board import Board
from peftlab.sweep.ledger import SELECTION, Cell
from peftlab.sweep.plan import Proposal


def sha256(overrides: tuple[str, ...]) -> str:
    return hashlib.sha256(repr(overrides).encode()).hexdigest()


def cell(*overrides: str) -> Cell:
    return Cell(Proposal(overrides), {"trainer": {"threads": None}}, list(overrides), sha256(overrides), "f1", "max")


def begin(folder: Path, of: Cell) -> RunRecord:
    """Start the record of a trial."""
    path = folder / of.run_id
    path.mkdir(parents=True, exist_ok=True)
    return RunRecord.start(
        path,
        run_id=of.run_id,
        name="tiny",
        command=["train"],
        overrides=of.overrides,
        identity={"sha256": of.sha256},
        code={"version": "1", "commit": None, "dirty": False, "diff_sha256": None},
        selection={"metric": "f1", "split": "validation", "mode": "max"},
    )


def end(record: RunRecord, status: str = "completed", value: float = 0.5, **cost: float) -> RunRecord:
    """End it, with a validation at every quarter."""
    for quarter in range(1, 5 if status == "completed" else 2):
        record.event("validated", step=10 * quarter, of=40, f1=value * quarter / 4)
    record.update(selection={"value": value}, cost={"wall_seconds": 2.0, "steps": 40, **cost})
    if status == "completed":
        record.add_metric("f1", "test", value - 0.1, "best", "a scorer")
    record.finish(status)  # type: ignore[arg-type]
    return record


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board("tiny", tmp_path, ["train", "-m"], {SELECTION: "max"}, slots=2, total=3)


class Cells:
    """Stands in for `peftlab.sweep.cells.Cells`."""

    def __init__(self, refused: Callable[[Proposal], Exception | None] = lambda proposal: None) -> None:
        self.refused = refused

    def __call__(self, proposal: Proposal) -> Cell:
        if error := self.refused(proposal):
            raise error
        return replace(cell(*proposal.overrides), proposal=proposal)

    def proposal_of(self, overrides: list[str]) -> Proposal:
        return Proposal(tuple(overrides))


Script = Callable[[RunRecord], Any]


class Process:
    """Stands in for a trial's process: a script writes its record, and says what it tells and how it exits."""

    def __init__(self, context: Any, order: Any) -> None:
        self.order = order
        self.told: list[tuple[Any, ...]] = []
        self.answers: list[bool] = []
        self.asked_to_end = False
        context.started.append(self)
        self._script = context.script(self)
        self.how = "ended by SIGKILL"
        self._over = False

    def messages(self) -> list[tuple[Any, ...]]:
        try:
            return [next(self._script)]
        except StopIteration:
            self._over = True
            return []

    def keep_going(self) -> None:
        self.answers += [True for kind, *_ in self.messages() if kind == "validated"]

    def answer(self, goes_on: bool) -> None:
        self.answers.append(goes_on)

    def ask_to_end(self) -> None:
        self.asked_to_end = True

    def ended(self) -> bool:
        return self._over

    @classmethod
    def start(cls, context: Any, order: Any) -> Process:
        context.packs.append([order.overrides])
        return cls(context, order)

    @classmethod
    def start_together(cls, context: Any, orders: Any) -> list[Process]:
        context.packs.append([order.overrides for order in orders])
        return [cls(context, order) for order in orders]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Replace the processes of trials; returns what makes a context of a script, a generator of what a trial tells."""
    monkeypatch.setattr("peftlab.sweep.controller.TrialProcess", Process)
    monkeypatch.setattr("peftlab.sweep.controller.PackedTrial", Process)
    monkeypatch.setattr("peftlab.sweep.controller.wait_for", lambda trials, seconds: None)
    return lambda script: SimpleNamespace(script=script, started=[], packs=[])
