"""The controller, with trials that are scripted instead of trained."""

from __future__ import annotations

import itertools
import math
import os
import signal
from collections import Counter
from dataclasses import replace

import pytest
from tests.unit.sweep.conftest import Cells, begin, cell, end

from peftlab.errors import ConfigError, DiskError
from peftlab.runs.record import RunRecord
from peftlab.sweep.controller import Controller
from peftlab.sweep.grid import GridPlan
from peftlab.sweep.ledger import Ledger
from peftlab.sweep.plan import Evaluation, Proposal
from peftlab.sweep.search import SearchPlan
from peftlab.sweep.slots import Slot
from peftlab.sweep.space import Choice, Space
from peftlab.sweep.spec import SweepBudgetSpec, SweepSpec
from peftlab.terminal.signals import Signals

SLOTS = [Slot((), 1, 0.5), Slot((), 1, 0.5)]
GRID = [Proposal((f"lr={n}",)) for n in (1, 2, 3)]


class Plan(GridPlan):
    """A grid that remembers what it is told, and prunes what it is told to."""

    def __init__(self, proposals, prunes=()):
        super().__init__(proposals)
        self.outcomes, self.evaluations, self.prunes = {}, [], prunes

    def tell(self, proposal, outcome):
        self.outcomes[proposal] = outcome

    def report(self, proposal, evaluation):
        self.evaluations.append((proposal, evaluation))
        return proposal not in self.prunes


@pytest.fixture
def control(tmp_path, board, scripted):
    """Return what makes a controller whose trials do as a script says; its `ended` are the final states."""

    def make(script, plan=None, signals=None, refused=lambda proposal: None, **options):
        return Controller(
            plan=plan or Plan(GRID),
            cells=Cells(refused),
            ledger=Ledger(tmp_path, look_only=True),
            board=board,
            slots=options.pop("slots", SLOTS),
            context=scripted(script),
            command=["train", "-m"],
            environment={"WANDB_RUN_GROUP": "tiny"},
            signals=signals or Signals(),
            show=lambda board: None,
            **options,
        )

    return make


def record_of(process):
    return begin(process.order.output.parents[1], cell(*process.order.overrides))


def well(process):
    """Do a trial that ends well."""
    record = record_of(process)
    yield ("stepped", 10, 40)
    yield ("validated", 20, 40, 0.3)
    end(record)


def states(controller):
    return {" ".join(trial.overrides): trial.state for trial in controller.board.trials}


def test_every_trial_is_run_once_within_its_slot(control):
    controller = control(well)
    controller.run()
    assert states(controller) == {"lr=1": "completed", "lr=2": "completed", "lr=3": "completed"}
    assert controller.board.status == "completed"
    assert {proposal: outcome.values for proposal, outcome in controller.plan.outcomes.items()} == dict.fromkeys(
        GRID, (0.5,)
    )
    orders = [process.order for process in controller.context.started]
    assert [order.overrides for order in orders] == [["lr=1"], ["lr=2"], ["lr=3"]]
    assert {order.config["trainer"]["threads"] for order in orders} == {1}
    assert {order.environment["WANDB_RUN_GROUP"] for order in orders} == {"tiny"}
    assert {order.config["existing"] for order in orders} == {"auto"}


def test_trials_that_are_alike_share_processes(control):
    """Of two slots, one gets the largest pack, and what is like no other a process of its own."""
    controller = control(
        well, Plan([Proposal((text,)) for text in ("a=1", "b=1", "a=2", "alone", "a=3", "a=4")]), pack=3
    )
    plain = controller.cells

    def kind(proposal):
        (text,) = proposal.overrides
        return replace(plain(proposal), pack=None if text == "alone" else text[0])

    controller.cells = kind
    controller.run()
    assert controller.context.packs[0] == [["a=1"], ["a=2"], ["a=3"]]
    assert sorted(map(sorted, controller.context.packs[1:])) == [[["a=4"]], [["alone"]], [["b=1"]]]
    assert set(states(controller).values()) == {"completed"}
    assert len(controller._free) == 2  # each slot is free again, once


def test_never_more_at_once_than_there_are_slots(control):
    busy, most = set(), []

    def script(process):
        busy.add(process)
        most.append(len(busy))
        yield from well(process)
        busy.remove(process)

    control(script, Plan([Proposal((f"lr={n}",)) for n in range(9)])).run()
    assert max(most) == 2


def test_a_validation_reaches_the_plan_and_its_answer_the_trial(control):
    def script(process):
        record = record_of(process)
        yield ("validated", 10, 40, 0.2)
        end(record, "completed" if process.answers == [True] else "pruned")

    controller = control(script, Plan(GRID, prunes=[GRID[1]]))
    controller.run()
    assert states(controller) == {"lr=1": "completed", "lr=2": "pruned", "lr=3": "completed"}
    assert controller.plan.evaluations[0] == (GRID[0], Evaluation(0.25, 0.2))
    assert controller.plan.outcomes[GRID[1]].status == "pruned"
    assert controller.board.status == "completed"


def dies(process):
    """Do a trial that is killed after it has begun."""
    record_of(process)
    yield ("stepped", 10, 40)


def test_a_trial_that_dies_is_recorded_and_the_rest_go_on(control):
    controller = control(lambda process: dies(process) if process.order.overrides == ["lr=2"] else well(process))
    controller.run()
    assert states(controller) == {"lr=1": "completed", "lr=2": "failed", "lr=3": "completed"}
    record = RunRecord.load(controller.ledger.path(cell("lr=2")))
    assert (record.data["status"], record.data["error"]["message"]) == ("failed", "ended by SIGKILL")
    assert controller.plan.outcomes[GRID[1]].status == "failed"
    assert controller.board.status == "failed"


def test_a_trial_that_dies_before_it_has_a_record_is_told_by_its_output(control):
    def script(process):
        process.order.output.parent.mkdir(exist_ok=True)
        process.order.output.write_text("something\nerror: no space\n")
        yield ("stepped", 0, 40)

    controller = control(script, Plan(GRID[:1]))
    controller.run()
    assert controller.board.trials[0].error == "ended by SIGKILL; error: no space"


@pytest.mark.parametrize(("retries", "state", "attempts"), [(0, "failed", 1), (1, "completed", 2)])
def test_what_has_died_is_tried_again_by_option(control, retries, state, attempts):
    tries = itertools.count()
    controller = control(
        lambda process: well(process) if next(tries) else dies(process), Plan(GRID[:1]), retries=retries
    )
    controller.run()
    assert states(controller) == {"lr=1": state}
    assert controller.board.trials[0].attempts == attempts


def test_a_failure_that_the_run_tells_of_itself_is_not_tried_again(control):
    def script(process):
        record = record_of(process)
        yield ("stepped", 10, 40)
        record.finish("failed", ArithmeticError("wrong"))

    controller = control(script, Plan(GRID[:1]), retries=5)
    controller.run()
    assert (controller.board.trials[0].attempts, controller.board.trials[0].error) == (1, "ArithmeticError: wrong")


def test_what_cannot_be_begun_fails_alone(control):
    refused = lambda proposal: ConfigError("lr=2: too much") if proposal == GRID[1] else None  # noqa: E731
    controller = control(well, refused=refused)
    controller.run()
    assert states(controller) == {"lr=1": "completed", "lr=2": "failed", "lr=3": "completed"}
    assert controller.plan.outcomes[GRID[1]].status == "failed"


def test_what_was_completed_meanwhile_is_not_run_again(control):
    controller = control(well)
    end(begin(controller.ledger.folder, cell("lr=2")), value=0.9)
    controller.run()
    assert [process.order.overrides for process in controller.context.started] == [["lr=1"], ["lr=3"]]
    assert controller.plan.outcomes[GRID[1]].values == (0.9,)


@pytest.mark.parametrize("status", ["interrupted", "failed", "running", "pruned"])
def test_what_was_begun_goes_on_and_its_time_is_added_up(control, status):
    controller = control(well, Plan(GRID[:1]))
    record = begin(controller.ledger.folder, cell("lr=1"))
    record.update(cost={"wall_seconds": 7.0})
    record.finish(status) if status != "running" else record.write()
    seen = []
    controller.show = lambda board: seen.append(board.trials[0].seconds if board.trials else 0.0)
    controller.run()
    assert states(controller) == {"lr=1": "completed"}
    assert max(seen) >= 7.0


@pytest.mark.parametrize(
    ("reuse", "code", "repeated"),
    [("always", "2", False), ("same_code", "2", True), ("never", None, True), ("same_code", None, False)],
)
def test_runs_of_the_past_are_kept_or_repeated(control, monkeypatch, reuse, code, repeated):
    controller = control(well, Plan(GRID[:1]), reuse=reuse)
    record = end(begin(controller.ledger.folder, cell("lr=1")))
    record.update(code={"version": code} if code else controller.ledger._code)
    record.write()
    assert controller.is_to_be_repeated(record) is repeated
    controller.run()
    assert [process.order.config["existing"] for process in controller.context.started] == ["rerun"] * repeated


def test_a_trial_that_another_process_still_writes_is_waited_for(control, monkeypatch):
    controller = control(well, Plan(GRID[:2]))
    looks = {}

    def busy(asked):
        looks[asked.run_id] = looks.get(asked.run_id, 0) + 1
        return asked == cell("lr=1") and looks[asked.run_id] < 4

    monkeypatch.setattr(controller.ledger, "is_busy", busy)
    controller.run()
    assert [process.order.overrides for process in controller.context.started] == [["lr=2"], ["lr=1"]]
    assert states(controller) == {"lr=1": "completed", "lr=2": "completed"}


def test_a_signal_ends_the_running_trials_and_starts_no_more(control):
    with Signals() as signals:
        signals.hold = True

        def script(process):
            record = record_of(process)
            yield ("stepped", 1, 40)
            os.kill(os.getpid(), signal.SIGINT) if signals.pending is None else None
            while not process.asked_to_end:
                yield ("stepped", 2, 40)
            record.finish("interrupted")

        controller = control(script, signals=signals)
        controller.run()
    assert controller.board.status == "interrupted"
    assert states(controller) == {"lr=1": "interrupted", "lr=2": "interrupted"}
    assert controller.plan.outcomes == {}


@pytest.mark.one_in(3, "slow")
@pytest.mark.parametrize("reuse", ["always", "same_code"])
@pytest.mark.parametrize("status", ["interrupted", "failed", "pruned"])
def test_what_other_code_has_begun_goes_on_only_where_that_is_wanted(control, reuse, status):
    controller = control(well, Plan(GRID[:1]), reuse=reuse)
    begin(controller.ledger.folder, cell("lr=1")).finish(status)
    controller.run()
    expected = {"always": "auto", "same_code": "rerun"}[reuse]
    assert [process.order.config["existing"] for process in controller.context.started] == [expected]


def test_the_same_run_is_never_made_twice_at_once(control):
    busy = []

    def script(process):
        assert not busy
        busy.append(process)
        yield from well(process)
        busy.remove(process)

    controller = control(script, Plan(GRID[:2]))
    controller.cells = lambda proposal: cell("lr=1")
    controller.run()
    assert len(controller.context.started) == 1
    assert states(controller) == {"lr=1": "completed"}


def test_a_failure_of_the_controller_lets_the_running_trials_end(control):
    ended = []

    def script(process):
        record = record_of(process)
        assert process.asked_to_end
        yield ("validated", 10, 40, 0.2)
        yield ("stepped", 11, 40)
        assert process.answers == [True]
        record.finish("interrupted")
        ended.append(process)

    controller = control(script)
    cells = controller.cells
    started = controller.context.started

    def dying(proposal):
        if started:
            raise RuntimeError("the process that checks trials has died")
        return cells(proposal)

    controller.cells = dying
    with pytest.raises(RuntimeError, match="has died"):
        controller.run()
    assert ended == started
    assert len(started) == 1


def test_a_board_that_cannot_be_written_costs_no_trial(control, caplog, monkeypatch):
    controller = control(well)
    monkeypatch.setattr(controller.board, "write", lambda: (_ for _ in ()).throw(DiskError("no space left")))
    with caplog.at_level("WARNING", "peftlab"):
        controller.run()
    assert set(states(controller).values()) == {"completed"}
    assert caplog.text.count("no space left") == 1


def test_a_validation_without_a_number_leaves_the_score_that_there_was(control):
    seen = []

    def script(process):
        record = record_of(process)
        yield ("validated", 10, 40, 0.2)
        yield ("validated", 20, 40, math.nan)
        seen.append(controller.board.trials[0].score)
        end(record)

    controller = control(script, Plan(GRID[:1]))
    controller.run()
    assert seen == [0.2]


def test_a_trial_that_had_been_pruned_is_not_yet_done(control):
    controller = control(well)
    controller.keep(cell("lr=1"), end(begin(controller.ledger.folder, cell("lr=1")), "pruned"))
    assert (controller.board.trials[0].kept, controller.board.trials[0].devices) == (False, 0.5)


def test_a_past_trial_is_shown_as_kept(control):
    controller = control(well)
    record = end(begin(controller.ledger.folder, cell("lr=1")), value=0.8)
    found = controller.keep(cell("lr=1"), record)
    row = controller.board.trials[0]
    assert (row.kept, row.other_code, row.state, row.score, row.test) == (True, True, "completed", 0.8, 0.8 - 0.1)
    assert found.values == (0.8,)


def test_a_past_trial_has_the_labels_that_the_plan_gives_it(control):
    controller = control({}, plan=Plan([Proposal(("lr=1",), {"phase": "final"})]))
    record = end(begin(controller.ledger.folder, cell("lr=1")))
    controller.keep(controller.cell_of_record(record), record)
    assert [trial.labels for trial in controller.board.trials] == [{"phase": "final"}]
    assert controller.cell_of_record(begin(controller.ledger.folder, cell("lr=4"))) is None


@pytest.mark.parametrize("retries", [0, 1])
def test_what_dies_before_it_writes_its_record_is_not_judged_by_that_of_before(control, tmp_path, retries):
    for proposal in GRID:
        end(begin(tmp_path, cell(*proposal.overrides)), value=0.1)
    asked = []

    def script(process):
        asked.append(process.order.config["existing"])
        yield ("stepped", 0, 40)

    controller = control(script, reuse="never", retries=retries)
    controller.run()
    assert set(states(controller).values()) == {"failed"}
    assert asked == ["rerun"] * len(GRID) * (1 + retries)


def asha() -> SearchPlan:
    spec = SweepSpec(search="random", prune="asha", budget=SweepBudgetSpec(trials=3))
    return SearchPlan(spec, Space((), (Choice("lr", ("1", "2", "3"), True),)), {"selection.value": "max"})


def pruned_at_first(process):
    """Be validated once, and end if that is wanted."""
    score = float(process.order.overrides[0][-1]) / 10
    record = record_of(process)
    yield ("validated", 14, 40, score)
    if process.answers == [False]:
        record.event("validated", step=14, of=40, f1=score)
        record.update(selection={"value": score}, cost={"wall_seconds": 2.0, "steps": 14})
        record.finish("pruned")
    else:
        end(record)


def test_a_promoted_trial_that_never_comes_to_go_on_fails_and_ends_the_search(control):
    begun = set()

    def script(process):
        if process.order.output not in begun:
            begun.add(process.order.output)
            yield from pruned_at_first(process)

    controller = control(script, asha(), slots=SLOTS[:1])
    controller.run()
    assert "failed" in states(controller).values()


def test_a_promotion_uses_up_no_retry(control, tmp_path):
    starts = Counter()

    def script(process):
        starts[process.order.output] += 1
        if starts[process.order.output] == 1:
            yield from pruned_at_first(process)
            return
        record = RunRecord.load(tmp_path / cell(*process.order.overrides).run_id)
        record.resume(step=14)
        if starts[process.order.output] > 2:  # it dies when it goes on for the first time
            end(record)

    controller = control(script, asha(), slots=SLOTS[:1], retries=1)
    controller.run()
    assert max(starts.values()) == 3
    assert "failed" not in states(controller).values()
