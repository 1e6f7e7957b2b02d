"""A callback that notes when each step of a run ends; a configuration names it with ``allow=[clock]``."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from lightning.pytorch.callbacks import Callback

OVERRIDES = ["allow=[clock]", "+callbacks.clock._target_=clock.Clock"]
"""Add it to a run of a script in this folder."""


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


readings: list[Reading] = []
"""At the end of each step of the last run of this process; on a GPU, when the host is through with it."""


class Clock(Callback):
    def on_train_start(self, *_: Any) -> None:
        readings.clear()

    def on_train_batch_end(self, *_: Any) -> None:
        readings.append(Reading.now())
