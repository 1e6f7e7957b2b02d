"""Report the progress of a run to whatever runs it as one of many."""

from __future__ import annotations

import time
from typing import Any, Protocol

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.tasks.task import Selection
from peftlab.training.interruption import Interruption

EVERY_SECONDS = 1.0
"""Seconds between two reports of steps."""


class Watcher(Protocol):
    """Receives the progress of a run."""

    def stepped(self, step: int, steps: int) -> None:
        """Receive that `step` of `steps` is over."""

    def validated(self, step: int, steps: int, value: float) -> bool:
        """Receive the score of a validation after `step` of `steps`; return whether the run should continue."""


class Reporting(Callback):
    """Reports steps, at intervals, and every validation during training to a watcher.

    Args:
        watcher: receives the reports, from the first process only.
        selection: names the reported score.
        interruption: ends the run at its next step when the watcher asks for it.
    """

    def __init__(self, watcher: Watcher, selection: Selection, interruption: Interruption) -> None:
        self.watcher, self.selection, self.interruption = watcher, selection, interruption
        self._reported = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Report the step, if a report is due."""
        now = time.monotonic()
        if trainer.is_global_zero and now - self._reported >= EVERY_SECONDS:
            self._reported = now
            self.watcher.stepped(trainer.global_step, int(trainer.estimated_stepping_batches))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the score; after the last step there is nothing left to prune."""
        if trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        step, steps = trainer.global_step, int(trainer.estimated_stepping_batches)
        value = float(trainer.callback_metrics[f"validation/{self.selection.metric}"])
        goes_on = self.watcher.validated(step, steps, value)
        self.interruption.pruned = not goes_on and step < steps
