"""Runs that are spoilt on purpose, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RELIABILITY = Path(__file__).parents[2] / "experiments" / "reliability"

pytestmark = pytest.mark.slow


def trials(script: str, how_many: int) -> str:
    """Return the summary of so many trials of `script`."""
    ended = subprocess.run(
        [sys.executable, str(RELIABILITY / script), str(how_many)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("runs", [3, pytest.param(9, marks=pytest.mark.exhaustive)])
def test_numbers_that_go_wrong_stop_the_run_in_time(runs):
    assert f"{runs} of {runs} runs" in trials("non_finite.py", runs)


@pytest.mark.parametrize("runs", [3, pytest.param(15, marks=pytest.mark.exhaustive)])
def test_a_full_disk_leaves_whole_files(tmp_path, runs):
    mount = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("a disk cannot be mounted here")
    subprocess.run(["umount", str(tmp_path)], check=True)
    assert f"{runs} of {runs} runs" in trials("disk_full.py", runs)


ON_ONE_RANK = """
from lightning.pytorch.callbacks import Callback


class Spoil(Callback):
    def on_train_batch_start(self, trainer, tuner, *_):
        if trainer.global_rank == 1 and trainer.global_step == 2:
            task, loss = tuner.task, type(tuner.task).loss
            task.loss = lambda outputs, batch: loss(task, outputs, batch) * float("nan")
"""


@pytest.mark.parametrize("on_nan", ["stop", pytest.param("skip_batch", marks=pytest.mark.exhaustive)])
def test_all_ranks_decide_alike(tiny_overrides, tmp_path, on_nan):
    (tmp_path / "spoiling.py").write_text(ON_ONE_RANK)
    arguments = [*tiny_overrides, "trainer.devices=2", f"trainer.on_nan={on_nan}", "run_dir=run", "callbacks=[]"]
    arguments += ["allow=[spoiling]", "+callbacks.spoil._target_=spoiling.Spoil", "budget.max_steps=30"]
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, "-m", "train", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    events = [event for event in record["history"] if event.get("kind") == "loss"]
    assert ended.returncode == 1, ended.stderr
    assert (record["status"], record["error"]["type"]) == ("failed", "NonFiniteError")
    assert events[0]["step"] == 3
    assert len(events[0]["examples"]) == 4  # the half of the batch that rank 1 had, told by rank 0
    assert len(events) == (1 if on_nan == "stop" else 10)
