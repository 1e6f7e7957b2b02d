"""Tell how far a run has come, to whoever runs it as one of many."""

from __future__ import annotations

import time
from typing import Any, Protocol

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.tasks.task import Selection
from peftlab.training.interruption import Interruption

EVERY_SECONDS = 1.0
"""Between steps that are told."""


class Watcher(Protocol):
    """Is told how far a run has come."""

    def stepped(self, step: int, steps: int) -> None:
        """Take up that `step` of `steps` is over."""

    def validated(self, step: int, steps: int, value: float) -> bool:
        """Take up the score of a validation after `step` of `steps`; return whether the run is to go on."""


class Reporting(Callback):
    """Tells a watcher of steps, now and then, and of every validation within the training.

    Args:
        watcher: is told, by the first process alone.
        selection: the score that is told.
        interruption: ends the run at its next step where the watcher says so.
    """

    def __init__(self, watcher: Watcher, selection: Selection, interruption: Interruption) -> None:
        self.watcher, self.selection, self.interruption = watcher, selection, interruption
        self._told = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Tell the step, if it is time."""
        now = time.monotonic()
        if trainer.is_global_zero and now - self._told >= EVERY_SECONDS:
            self._told = now
            self.watcher.stepped(trainer.global_step, int(trainer.estimated_stepping_batches))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell the score; at the end of the training there is nothing left to prune."""
        if trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        step, steps = trainer.global_step, int(trainer.estimated_stepping_batches)
        value = float(trainer.callback_metrics[f"validation/{self.selection.metric}"])
        goes_on = self.watcher.validated(step, steps, value)
        self.interruption.pruned = not goes_on and step < steps
