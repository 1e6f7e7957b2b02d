"""What a sweep says before its first trial."""

from __future__ import annotations

import os

import pytest

from peftlab.sweep import announcing
from peftlab.sweep.announcing import announce, pack_of, sharing
from peftlab.sweep.board import Board
from peftlab.sweep.slots import divide
from peftlab.sweep.spec import SweepSpec
from peftlab.sweep.worker import Estimate

ESTIMATE = Estimate(60.0, 0, 0, 1, 12)


@pytest.fixture
def said(monkeypatch, caplog):
    """Return the lines that were logged."""
    monkeypatch.setattr(announcing.log, "propagate", True)
    caplog.set_level("INFO", "peftlab")
    return lambda: caplog.messages


@pytest.mark.parametrize(
    ("slots", "estimate", "pack", "why"),
    [
        (divide(["0", "1"], 8), ESTIMATE, 12, "up to 12 trials in a process, by a GPU's memory"),
        (divide(["0", "1"], 8), None, 1, "one trial in a process: the memory of a trial was not estimated"),
        (divide(["0"], 8, 0.5), ESTIMATE, 1, "one trial in a process: hydra.launcher.gpus_per_trial divides"),
        (divide([], 8), ESTIMATE, 1, "one trial in a process: a CPU is not idle"),
        ([], None, 1, "one trial in a process: the launcher runs each trial by itself"),
    ],
)
def test_packs_by_memory_are_for_whole_gpus_and_others_are_told_why_not(slots, estimate, pack, why, said):
    assert pack_of(slots, estimate) == pack
    (line,) = said()
    assert line.startswith(f"sweep.pack=auto: {why}")


def test_trials_that_share_a_gpu_are_told_of_the_daemon(tmp_path):
    environment = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    shared = divide(["0", "1"], 8, 0.25)
    assert sharing(shared, environment).startswith(
        f"up to 4 trials share a GPU, in turns: there is no MPS daemon in {tmp_path}"
    )
    (tmp_path / "nvidia-cuda-mps-control.pid").write_text(str(os.getpid()))
    assert (
        sharing(shared, environment)
        == f"up to 4 trials share a GPU, side by side, through the MPS daemon in {tmp_path}"
    )


@pytest.mark.parametrize(
    "slots",
    [divide(["0", "1"], 8), divide(["0", "1"], 8, 0.5, trials_at_once=2), divide([], 8, 0.5, trials_at_once=4), []],
)
def test_trials_with_a_gpu_each_or_none_are_not(slots):
    assert sharing(slots, {}) is None


@pytest.mark.parametrize(("total", "lines"), [(8, 2), (0, 1)])
def test_a_sweep_says_it_where_trials_are_left(said, tmp_path, total, lines):
    slots = divide(["0"], 8, 0.5)
    board = Board("sweep", tmp_path, [], {}, len(slots), total=total)
    assert announce(board, [], slots, SweepSpec(probe_seconds=0)) is None
    assert ["share a GPU" in line for line in said()] == [False, True][:lines]
