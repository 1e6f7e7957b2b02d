"""The disk fills up at a certain write: what is left of the run, and what does it say?

python experiments/reliability/disk_full.py [TRIALS]

In each trial a tiny run lives on a small disk of its own (a tmpfs, which wants the right to mount one), and at the
moment when a certain file is to be written for the n-th time, all of the disk but a few KiB is taken. Where the run
can do without the file (its log, the table of metrics, the cache of encoded data) it must complete, and warn; before
it has begun it must end with exit code 2 and leave no folder; else with exit code 1. The message must name the path
and the bytes that are free, and whatever lies in the folder must be whole: every checkpoint loads, the record can be
read.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import forked
from tiny import make_data, make_model, overrides

import peftlab.one_run as story
from peftlab.composing.compose import compose
from peftlab.storage.locks import LOCK

KIB = 1024
DISK_KIB = 16 * KIB
BORNE = ("log.txt", "metrics.csv", "encoded")
"""Files that a run can do without."""
POINTS = [
    *(("packages.txt", 1), ("config.yaml", 1), ("record.json", 1), ("record.json", 2), ("record.json", 4)),
    *(("checkpoints", 1), ("checkpoints", 2), ("checkpoints", 3), ("validation.jsonl", 1), ("test.jsonl", 1)),
    *(("adapter", 1), ("adapter_config", 1), ("log.txt", 1), ("metrics.csv", 1), ("encoded", 1)),
]
"""Part of a path, and the how manieth write."""


@dataclass(frozen=True)
class Trial:
    """When the disk is full."""

    where: str
    nth: int
    peft: str
    left: int
    """Bytes that are left."""

    @classmethod
    def draw(cls, number: int) -> Trial:
        random_ = random.Random(number)
        where, nth = POINTS[number % len(POINTS)]
        left = random_.choice([0, 8, 16]) * KIB if where in ("checkpoints", "adapter") else 0
        return cls(where, nth, random_.choice(["lora", "full"]), left)


def fill_at(trial: Trial, disk: Path) -> None:
    """Fill `disk` when the file is opened, or the folder that it lies in is made; empty it after a borne one."""
    state: dict[str, Any] = {"seen": 0, "busy": False, "filled": False}
    filler = disk / "filler"

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if state["busy"] or event not in ("open", "os.mkdir"):
            return
        path, writes = str(arguments[0]), event == "os.mkdir" or "r" not in str(arguments[1] or "r")
        if not writes or not path.startswith((str(disk), "run", ".")):
            return
        state["busy"] = True
        over = trial.where not in path and not path.endswith("cache")  # the folder that `encoded` is made in
        if state["filled"] and trial.where in BORNE and over:
            filler.unlink(missing_ok=True)
        if not state["filled"] and trial.where in path:
            state["seen"] += 1
            if state["seen"] == trial.nth:
                state["filled"] = True
                figures = os.statvfs(disk)
                with filler.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, max(1, figures.f_bavail * figures.f_frsize - trial.left))
        state["busy"] = False

    sys.addaudithook(watch)


def run(trial: Trial, disk: Path, model: Path, data: Path) -> None:
    """Do the run on `disk`, which fills up."""
    os.environ["PEFTLAB_CACHE"] = str(disk / "cache")
    given = [text for text in overrides(model, data) if not text.startswith("logger")]
    config = compose(
        *given,
        "logger=[csv]",
        f"peft={trial.peft}",
        f"run_dir={disk / 'run'}",
        "budget.validate_every=0.5",
        "task.selection.metric=loss",  # which gets better at every validation
        "task.selection.mode=min",
    )
    fill_at(trial, disk)
    story.run(config)


def faults(trial: Trial, code: int, said: str, disk: Path) -> list[str]:
    """Return what is wrong about how the trial ended."""
    import torch
    from safetensors.torch import load_file

    before = trial.where in ("packages.txt", "config.yaml") or (trial.where, trial.nth) == ("record.json", 1)
    expected = 0 if trial.where in BORNE else 2 if before else 1
    folder = disk / "run"
    checks = {
        f"exit code {code}, not {expected}": code == expected,
        "a traceback": "Traceback" not in said,
        "no figures": "bytes are free" in said,
        "no path": str(disk) in said,
        "no error": code == 0 or "error: " in said,
        "the folder is left behind": folder.exists() != before,
    }
    if not before:
        status = json.loads((folder / "record.json").read_text())["status"]
        ends = {0: "completed", 1: "failed"}
        checks[f"status {status}"] = status == ends[expected] or (
            status == "running" and ("nor can the record" in said or "record.json: cannot be written" in said)
        )
    for file in folder.rglob("*.safetensors"):
        checks[f"{file} is damaged"] = all(bool(torch.isfinite(t).all()) for t in load_file(file).values())
    if trial.where == "checkpoints" and trial.nth > 2:
        checks["the old checkpoint is gone"] = any(folder.glob("checkpoints/*.safetensors"))
    left = [str(file) for file in folder.rglob(".*") if file.name != LOCK]
    checks[f"left behind: {left}"] = not left
    return [fault for fault, passed in checks.items() if not passed]


@contextmanager
def mounted(disk: Path) -> Iterator[None]:
    """A small disk at `disk`."""
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def main(how_many: int = 20) -> int:
    """Return how many trials went wrong."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        assert forked(lambda: make_model(root / "model"), root / "said.txt") == 0, (root / "said.txt").read_text()
        make_data(root / "data")
        for number in range(how_many):
            trial, disk, said = Trial.draw(number), root / f"disk{number}", root / f"said{number}.txt"
            with mounted(disk):
                code = forked(lambda trial=trial, disk=disk: run(trial, disk, root / "model", root / "data"), said)
                try:
                    found = faults(trial, code, said.read_text(), disk)
                except Exception as error:  # noqa: BLE001  # whatever it is, a file is not whole
                    found = [repr(error)]
            wrong += bool(found)
            if found:
                print(f"WRONG: {trial}: {'; '.join(found)}\n{said.read_text()[-3000:]}", file=sys.stderr)
    print(f"full disk: {how_many - wrong} of {how_many} runs ended with whole files and the right message")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(*map(int, sys.argv[1:])) else 0)
