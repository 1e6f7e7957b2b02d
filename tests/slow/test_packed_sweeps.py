"""Sweeps whose trials share processes, and compute their steps together."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slow.conftest import SweepCommand

pytestmark = pytest.mark.slow

QUICKLY = ["sweep.probe_seconds=0", "sweep.report=false", "logger=[csv]", "callbacks=[]", "name=tiny", "sweep.pack=3"]


@pytest.fixture
def sweep(tiny_overrides: list[str]) -> SweepCommand:
    return SweepCommand(Path("sweeps/tiny"), [*tiny_overrides, *QUICKLY])


def test_trials_of_a_process_have_records_and_outputs_and_ends_of_their_own(sweep):
    ended = sweep.run("optimizer.lr=1e-3,2e-3,1e38", "seed=0,1", code=1)
    assert "6 trials, 0 of them done; packs of up to 3, 1 at a time" in ended.stdout
    for run_id, record in sweep.records().items():
        fails = "optimizer.lr=1e+38" in record["overrides"]
        assert (record["status"], record["error"] and record["error"]["type"]) == (
            ("failed", "NonFiniteError") if fails else ("completed", None)
        )
        assert record["packing"]["runs"] == 3
        output = (sweep.folder / "output" / f"{run_id}.txt").read_text()
        assert output.count("run folder: ") == (1 if fails else 2)
        assert f"tiny/{run_id}" in output
    assert sum(record["packing"]["joint_steps"] for record in sweep.records().values()) == 6  # two of each of one pack
    assert "2 of 6 trials failed" in ended.stderr


def test_trials_of_a_killed_process_go_on_in_the_next_one(sweep, disturb):
    kill = [part.replace("callbacks.disturb", "callbacks.progress") for part in disturb(0, "SIGKILL")]
    # a callback in that place is no part of the identity: the trial that it kills is the one of the next command
    ended = sweep.run("seed=0,1", *kill, code=1)
    assert "2 of 2 trials failed" in ended.stderr
    assert {record["error"]["message"] for record in sweep.records().values()} == {"ended by SIGKILL: is memory short?"}
    sweep.run("seed=0,1", "sweep.pack=1")
    assert {record["status"] for record in sweep.records().values()} == {"completed"}
