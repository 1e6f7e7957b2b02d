"""Batches, with a launcher that is scripted instead of a cluster."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from tests.unit.sweep.conftest import Cells, begin, cell, end

from peftlab.errors import ConfigError, RunError
from peftlab.storage.atomic import is_torn
from peftlab.sweep import batch as batches
from peftlab.sweep.batch import INTERRUPTED, Batch, Passing, check_chosen, check_plan, way
from peftlab.sweep.board import read
from peftlab.sweep.grid import GridPlan
from peftlab.sweep.ledger import Ledger
from peftlab.sweep.plan import Proposal
from peftlab.sweep.spec import PruningSpec, SweepBudgetSpec, SweepSpec
from peftlab.terminal.signals import Interrupted

GRID = [Proposal((f"lr={n}",)) for n in (1, 2, 3)]


class Plan(GridPlan):
    """A grid that remembers what it is told."""

    def __init__(self):
        super().__init__(GRID)
        self.outcomes = {}

    def tell(self, proposal, outcome):
        self.outcomes[proposal] = outcome.status


class Launcher:
    """Does with each trial what `act` says, and returns what that returns."""

    def __init__(self, act):
        self.act, self.batches = act, []

    def launch(self, job_overrides, initial_job_idx):
        self.batches.append([overrides[0] for overrides in job_overrides])
        self.overrides = job_overrides
        return [returned(self.act(cell(overrides[0]))) for overrides in job_overrides]


def returned(value):
    done = JobReturn(status=JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED)
    done.return_value = value
    return done


@pytest.fixture
def control(tmp_path, board):
    def make(act, **options):
        return Batch(
            plan=Plan(),
            cells=Cells(options.pop("refused", lambda proposal: None)),
            ledger=Ledger(tmp_path, look_only=True),
            board=board,
            launcher=Launcher(act),
            show=lambda board: None,
            **options,
        )

    return make


def states(batch):
    return {" ".join(trial.overrides): trial.state for trial in batch.board.trials}


def test_all_are_handed_over_at_once_and_read_from_their_records(control, tmp_path):
    batch = control(lambda of: end(begin(tmp_path, of), value=0.7) and None)
    batch.run()
    assert batch.launcher.batches == [["lr=1", "lr=2", "lr=3"]]
    assert states(batch) == dict.fromkeys(["lr=1", "lr=2", "lr=3"], "completed")
    assert [trial.score for trial in batch.board.trials] == [0.7] * 3
    assert batch.plan.outcomes == dict.fromkeys(GRID, "completed")
    assert batch.board.status == "completed"


def test_the_board_follows_the_records_while_the_launcher_is_at_work(control, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "LOOK_SECONDS", 0.01)
    first, second = cell("lr=1"), cell("lr=2")

    def seen(of, *facts):
        rows = {row["run_id"]: row for row in read(tmp_path)["trials"]}
        return tuple(rows[of.run_id][key] for key in ("state", "score", "step", "steps")) == facts

    def act(of):
        record = begin(tmp_path, of)
        if of == second:
            record.event("validated", step=10, of=40, f1=0.2)
            record.update(selection={"value": 0.2})
            record.write()
            until = time.monotonic() + 60
            while not (seen(first, "completed", 0.5, 40, 40) and seen(second, "running", 0.2, 10, 40)):
                assert time.monotonic() < until
                time.sleep(0.01)
        end(record)

    batch = control(act)
    batch.run()
    assert set(states(batch).values()) == {"completed"}


def test_what_is_finished_is_not_handed_over_again(control, tmp_path):
    end(begin(tmp_path, cell("lr=2")))
    batch = control(lambda of: end(begin(tmp_path, of)) and None)
    batch.run()
    assert batch.launcher.batches == [["lr=1", "lr=3"]]
    assert states(batch) == dict.fromkeys(["lr=1", "lr=2", "lr=3"], "completed")


def test_what_is_repeated_is_begun_anew_once_however_often_a_cluster_begins_it(control, tmp_path):
    old = end(begin(tmp_path, cell("lr=2")), value=0.1)
    batch = control(lambda of: end(begin(tmp_path, of), value=0.7) and None, reuse="never")
    seen = []
    launch = batch.launcher.launch
    batch.launcher.launch = lambda jobs, first: seen.append(old.folder.exists()) or launch(jobs, first)
    batch.run()
    assert seen == [False]
    assert all("existing=auto" in overrides for overrides in batch.launcher.overrides)
    assert [trial.score for trial in batch.board.trials] == [0.7] * 3


def test_one_that_is_killed_while_it_removes_a_trial_to_repeat_leaves_nothing_in_its_place(
    control, tmp_path, monkeypatch
):
    def killed(folder):
        raise KeyboardInterrupt

    of = end(begin(tmp_path, cell("lr=1")), value=0.9)
    (of.folder / "config.yaml").touch()
    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        control(lambda of: None, reuse="never").run()
    assert not of.folder.exists()
    (left,) = tmp_path.glob("*/config.yaml")
    assert is_torn(left.parent)  # which is removed in the end
    assert not list(tmp_path.rglob("record.json"))


def test_nothing_is_launched_where_nothing_is_left(control, tmp_path):
    for proposal in GRID:
        end(begin(tmp_path, cell(*proposal.overrides)))
    batch = control(lambda of: None)
    batch.run()
    assert batch.launcher.batches == []


def test_the_folder_of_the_trial_and_its_name_are_added_in_hydras_grammar(control, tmp_path):
    batch = control(lambda of: end(begin(batch.ledger.folder, of)) and None)
    batch.ledger.folder = tmp_path / "it's one, {mine}"
    batch.run()
    parsed = OverridesParser.create().parse_overrides(list(batch.launcher.overrides[0]))
    values = {override.key_or_group: override.value() for override in parsed}
    assert str(values["sweep_dir"]).strip("'") in (str(batch.ledger.folder), str(batch.ledger.folder).strip("'"))
    assert values["existing"] == "auto"
    assert values["run_dir"] is None
    assert str(values["hydra.job.name"]) == cell("lr=1").run_id


def test_a_run_id_that_looks_like_a_number_names_its_job(control):
    of = replace(cell("lr=1"), sha256="1234567890e1" + "0" * 52)
    (override,) = OverridesParser.create().parse_overrides(control(lambda of: None)._overrides(of)[-1:])
    assert str(override.value()) == "1234567890e1"


def test_a_trial_that_dies_stops_no_other_and_its_record_says_so(control, tmp_path):
    def act(of):
        record = begin(tmp_path, of)
        if of == cell("lr=2"):
            return "ended by SIGKILL: is memory short?"
        end(record)
        return None

    batch = control(act)
    batch.run()
    assert states(batch) == {"lr=1": "completed", "lr=2": "failed", "lr=3": "completed"}
    assert "SIGKILL" in batch.board.trials[1].error
    record = batch.ledger.record(cell("lr=2"))
    assert record.data["status"] == "failed"
    assert record.data["error"] == {"type": "Died", "message": "ended by SIGKILL: is memory short?"}
    assert batch.board.status == "failed"
    assert batch.plan.outcomes[GRID[1]] == "failed"


def test_a_job_that_is_lost_before_it_has_a_record_is_told(control, tmp_path):
    batch = control(lambda of: OSError("the node is gone") if of == cell("lr=1") else end(begin(tmp_path, of)) and None)
    batch.run()
    assert states(batch)["lr=1"] == "failed"
    assert "OSError: the node is gone" in batch.board.trials[0].error


def test_a_trial_that_died_is_tried_again_as_often_as_asked(control, tmp_path):
    tried = []

    def act(of):
        record = begin(tmp_path, of)
        tried.append(of)
        return "ended by SIGSEGV" if tried.count(of) == 1 else end(record) and None

    batch = control(act, retries=1)
    batch.run()
    assert batch.launcher.batches == [["lr=1", "lr=2", "lr=3"]] * 2
    assert set(states(batch).values()) == {"completed"}


@pytest.mark.parametrize(("retries", "state"), [(0, "failed"), (1, "completed")])
def test_what_dies_before_it_writes_is_not_judged_by_the_failure_of_before(control, tmp_path, retries, state):
    begin(tmp_path, cell("lr=2")).finish("failed", {"type": "RuntimeError", "message": "of yesterday"})
    tried = []

    def act(of):
        tried.append(of)
        if of == cell("lr=2") and tried.count(of) == 1:
            return "ended by SIGKILL"
        return end(begin(tmp_path, of)) and None

    batch = control(act, retries=retries)
    batch.run()
    assert states(batch)["lr=2"] == state
    assert "of yesterday" not in str(batch.board.trials[1].error)


def test_an_interrupted_trial_is_no_failure(control, tmp_path):
    batch = control(lambda of: begin(tmp_path, of).finish("interrupted") or INTERRUPTED)
    batch.run()
    assert set(states(batch).values()) == {"interrupted"}
    assert batch.board.status == "interrupted"


def test_a_launcher_that_fails_ends_the_sweep_and_what_is_done_is_kept(control, tmp_path):
    def act(of):
        if of == cell("lr=2"):
            raise RuntimeError("no such partition")
        end(begin(tmp_path, of))

    batch = control(act, retries=3)
    with pytest.raises(RunError, match="no such partition"):
        batch.run()
    assert states(batch) == {"lr=1": "completed", "lr=2": "failed", "lr=3": "failed"}
    assert len(batch.launcher.batches) == 1


def test_a_signal_leaves_the_launcher_and_the_board_says_so(control, tmp_path):
    def act(of):
        raise Interrupted(signal.SIGINT)

    batch = control(act)
    with pytest.raises(Interrupted):
        batch.run()
    assert batch.board.status == "interrupted"
    assert (tmp_path / "sweep.json").is_file()


def test_what_cannot_be_run_is_not_handed_over(control, tmp_path):
    refused = lambda proposal: ConfigError("no") if proposal == GRID[0] else None  # noqa: E731
    batch = control(lambda of: end(begin(tmp_path, of)) and None, refused=refused)
    batch.run()
    assert batch.launcher.batches == [["lr=2", "lr=3"]]
    assert states(batch)["lr=1"] == "failed"


def test_the_way_of_a_job():
    assert way(returned(None)) is None
    assert way(returned("ended by SIGKILL")) == "ended by SIGKILL"
    assert way(returned(ValueError("x"))) == "ValueError: x"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (SweepSpec(search="tpe"), "sweep.search=tpe"),
        (SweepSpec(search="cmaes"), "sweep.search=cmaes"),
        (SweepSpec(search="gp"), "sweep.search=gp"),
        (SweepSpec(search="random", prune="asha", budget=SweepBudgetSpec(trials=4)), "sweep.prune=asha"),
        (SweepSpec(search="random", budget=SweepBudgetSpec(hours=1.0)), "sweep.budget.hours"),
        (SweepSpec(pack=2), "sweep.pack=2"),
    ],
)
def test_what_wants_to_hear_of_trials_is_refused(spec, told):
    with pytest.raises(ConfigError, match=told):
        check_plan(spec, "ray")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (SweepSpec(protocol="equal_budget", search="tpe", budget=SweepBudgetSpec(full_runs=3)), "sweep.protocol: "),
        (SweepSpec(search="random", budget=SweepBudgetSpec(trials=4)), "sweep.search: "),
        (SweepSpec(space={"seed": "1,2"}), "sweep.space: hydra/sweeper=basic chooses the trials itself"),
        (SweepSpec(objectives={"cost.wall_seconds": "min"}), "sweep.objectives: "),
        (SweepSpec(ensemble=2), "sweep.ensemble: "),
    ],
)
def test_what_another_sweeper_would_overlook_is_refused(spec, told):
    check_chosen(SweepSpec(pack=2, reuse="never", retries=1), "basic")
    with pytest.raises(ConfigError, match=told):
        check_chosen(spec, "basic")


@pytest.mark.parametrize("search", ["grid", "random", "qmc"])
def test_what_needs_to_hear_of_none_is_not(search):
    budget = SweepBudgetSpec() if search == "grid" else SweepBudgetSpec(trials=4)
    check_plan(SweepSpec(search=search, budget=budget, pruning=PruningSpec()), "ray")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_signals_reach_the_trial_also_where_they_come_before_it(number):
    asked = []
    before = signal.getsignal(number)
    with Passing() as passing:
        os.kill(os.getpid(), number)
        passing.trial = SimpleNamespace(ask_to_end=lambda: asked.append(1))
        passing.again()
        assert asked == [1]
        os.kill(os.getpid(), number)
        assert asked == [1, 1]
    assert passing.received == number
    assert signal.getsignal(number) == before
