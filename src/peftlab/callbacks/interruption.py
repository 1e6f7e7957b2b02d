"""End at the next step boundary where a signal has asked for it, all ranks at the same one."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.exits import Signals
from peftlab.processes import over_ranks


class Interruption(Callback):
    """While training, holds signals back until a step is over, so that the weights are those of a whole step.

    With several ranks they are held back while evaluating, too: a rank that ends alone leaves the others waiting.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hold signals back."""
        self.signals.hold = True
        self.signals.listen()  # again: Lightning has put a handler of its own before ours

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over from Lightning's handler."""
        self.signals.listen()

    on_test_start = on_validation_start

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Let a held-back signal through, if any rank has got one."""
        (number,) = over_ranks([self.signals.pending or 0], "max")
        self.signals.pending = int(number) or None
        self.signals.raise_pending()

    on_validation_batch_end = on_test_batch_end = on_train_batch_end

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let signals through."""
        self.signals.hold = trainer.world_size > 1
        self.on_train_batch_end()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let signals through."""
        self.signals.hold = False
