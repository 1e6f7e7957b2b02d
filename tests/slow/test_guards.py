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


def test_numbers_that_go_wrong_stop_the_run_in_time():
    assert "9 of 9 runs" in trials("non_finite.py", 9)


def test_a_full_disk_leaves_whole_files(tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("a disk cannot be mounted here")
    subprocess.run(["umount", str(tmp_path)], check=True)
    assert "16 of 16 runs" in trials("disk_full.py", 16)


OUT_OF_MEMORY = """
import resource
import sys

import torch
from lightning.pytorch.callbacks import Callback

import peftlab.one_run as story
from peftlab.python_api import compose


class Limit(Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 1:  # what is needed once, whatever the batch, is there
            pages = int(open("/proc/self/statm").read().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 64 * 2**20,) * 2)


make_trainer = story.make_trainer
story.make_trainer = lambda spec, data, folder, callbacks, *rest: make_trainer(
    spec, data, folder, [Limit(), *callbacks], *rest
)
story.run(compose(*sys.argv[1:]))
"""


def test_an_allocation_that_the_system_refuses(tiny_model, tiny_overrides, tmp_path):
    """A wide tiny model on 32 long sentences: their attention takes more than the process may still have."""
    data = tmp_path / "data"
    data.mkdir()
    sentence = "\n".join(f"{word} O" for word in ["paris"] * 59 + ["moved"]) + "\nrome B-LOC\n\n"
    for name in ("train", "dev", "test"):
        (data / f"{name}.txt").write_text(sentence * (512 if name == "train" else 4))
    overrides = [*tiny_overrides, f"data.path={data}", "data.batch_size=512", "trainer.threads=1", "run_dir=run"]
    ended = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, *overrides], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["status"] == "completed", ended.stderr
    assert "out of memory" in [event["event"] for event in record["history"]]


ON_ONE_RANK = """
from lightning.pytorch.callbacks import Callback


class Spoil(Callback):
    def on_train_batch_start(self, trainer, tuner, *_):
        if trainer.global_rank == 1 and trainer.global_step == 2:
            task, loss = tuner.task, type(tuner.task).loss
            task.loss = lambda logits, batch: loss(task, logits, batch) * float("nan")
"""


@pytest.mark.parametrize("on_nan", ["stop", "skip_batch"])
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
    events = [event for event in record["history"] if event["event"] in ("not finite", "step left out")]
    assert ended.returncode == 1, ended.stderr
    assert (record["status"], record["error"]["type"]) == ("failed", "NonFiniteError")
    assert events[0]["step"] == 3
    assert len(events[0]["examples"]) == 4  # the half of the batch that rank 1 had, told by rank 0
    assert len(events) == (1 if on_nan == "stop" else 10)
