"""A callback that gives every step the same time, and a clock that leaves out what is no run's own time."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

CLOCK = "PACE_CLOCK"
"""The variable that names the file of the clock."""


def tick(clock: Path) -> None:
    """Be the clock: count seconds in a file, but none in which all stands still, a paused machine or stopped jobs."""
    file = os.open(clock, os.O_WRONLY | os.O_CREAT)
    total, last = 0.0, time.monotonic()
    while True:
        os.pwrite(file, struct.pack("d", total), 0)
        time.sleep(0.01)
        total, last = total + min(0.1, time.monotonic() - last), time.monotonic()


def now() -> float:
    """Return the time by that clock, in seconds."""
    found: float = struct.unpack("d", Path(os.environ[CLOCK]).read_bytes())[0]
    return found


class Pace(Callback):
    """Sleeps after every step; leaves the files ``training``, ``half`` and ``trained``.

    The times of the first and the last, see `now`, are written into them. What a step waits for beyond its own sleep
    makes the run longer.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_start(self, *_: Any) -> None:
        Path("training").write_text(repr(now()))

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        time.sleep(self.seconds)
        if 2 * trainer.global_step >= trainer.max_steps:
            Path("half").touch()

    def on_train_end(self, *_: Any) -> None:
        Path("trained").write_text(repr(now()))
