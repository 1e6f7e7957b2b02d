"""What slow tests share: callbacks that disturb a run, logits of runs in a new process, the command of a sweep."""

from __future__ import annotations

import csv
import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file


@pytest.fixture(autouse=True)
def as_important_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers would give way to every other test."""
    monkeypatch.setenv("RAY_worker_niceness", "0")


CALLBACKS = '''
import os
import signal
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class Disturb(Callback):
    """Do something on one rank after the second step; every rank leaves its process id in pids/."""

    def __init__(self, rank: int, how: str):
        self.rank, self.how = rank, how

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        Path("pids").mkdir(exist_ok=True)
        Path("pids", str(trainer.global_rank)).write_text(str(os.getpid()))
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if trainer.global_rank == self.rank and trainer.global_step == 2 and stepped:
            if self.how == "raise":
                raise ArithmeticError("one rank has failed")
            if self.how == "lock":
                os.chmod("run/checkpoints", 0o555)
            else:
                os.kill(os.getpid(), getattr(signal, self.how))
'''


@pytest.fixture
def disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], list[str]]:
    """Return the overrides that let one rank raise an error, get a signal, or lock a folder, after its second step."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "disturbing.py").write_text(CALLBACKS)
    monkeypatch.syspath_prepend(tmp_path / "package")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "package"), prepend=":")

    def overrides(rank: int, how: str) -> list[str]:
        callback = {"_target_": "disturbing.Disturb", "rank": rank, "how": how}
        return ["allow=[disturbing]", *(f"+callbacks.disturb.{key}={value}" for key, value in callback.items())]

    return overrides


LOGITS = '''
"""Load the runs in the folders argv and write the logits of each on the test split, as one tensor a batch."""

import sys

import torch
from safetensors.torch import save_file

from peftlab.data.module import DataModule
from peftlab.use.finished import load


def logits(folder):
    run = load(folder)
    data = DataModule(run.spec.data, run.spec.task, run.processor, run.spec.budget, run.spec.seed)
    data.load()
    batches = enumerate(data.test_dataloader())
    with torch.no_grad():
        return {str(number): run.model(**batch.inputs).logits.contiguous() for number, batch in batches}


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        save_file(logits(folder), f"{folder}.safetensors")
'''


def logits_here_and_elsewhere(folder: Path, runs: Sequence[str]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the logits of the runs in `folder` by batch of the test split, of this process and of a new one."""
    (folder / "logits.py").write_text(LOGITS)
    subprocess.run([sys.executable, "logits.py", *runs], check=True, cwd=folder)
    logits = runpy.run_path(str(folder / "logits.py"))["logits"]
    return {run: (logits(folder / run), load_file(folder / f"{run}.safetensors")) for run in runs}


class SweepCommand:
    """The command of a sweep, and what it leaves in its folder."""

    def __init__(self, folder: Path, overrides: list[str]) -> None:
        self.folder, self.command = folder, [sys.executable, "-m", "train", "-m", *overrides]

    def run(self, *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run([*self.command, *more], capture_output=True, text=True, check=False)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended

    def records(self) -> dict[str, dict[str, Any]]:
        files = self.folder.glob("*/record.json")
        return {file.parent.name: json.loads(file.read_text()) for file in files}

    def rows(self) -> list[dict[str, str]]:
        with (self.folder / "trials.csv").open() as file:
            return list(csv.DictReader(file))
