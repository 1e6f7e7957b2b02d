"""Clocks, and a callback that lets a script follow a run step by step, named with ``allow=[clock]``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import lightning as L
from lightning.pytorch.callbacks import Callback

OVERRIDES = ["allow=[clock]", "+callbacks.clock._target_=clock.Clock"]
"""Add the callback to a run of a script in this folder."""


class Reading(NamedTuple):
    """Seconds since any beginning."""

    wall: float
    process: float
    """Of the processor, in all threads of this process."""
    thread: float
    """Of the processor, in this thread, the one that trains."""

    @classmethod
    def now(cls) -> Reading:
        """Read the clocks."""
        return cls(time.perf_counter(), time.process_time(), time.thread_time())

    def since(self, before: Reading) -> Reading:
        """Return the seconds from `before` to this reading."""
        return Reading(*(now - then for now, then in zip(self, before, strict=True)))


at_start: list[Callable[[L.Trainer, Any], None]] = []
"""What is called when the training of any run of this process begins, with its trainer and tuner."""
after_step: list[Callable[[], None]] = []
"""What is called after each step; on a GPU, when the host is through with it."""


class Clock(Callback):
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for each in at_start:
            each(trainer, pl_module)

    def on_train_batch_end(self, *_: Any) -> None:
        for each in after_step:
            each()
