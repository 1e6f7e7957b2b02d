"""End at the next step boundary where a signal has asked for it."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.exits import Signals


class Interruption(Callback):
    """While training, holds signals back until a step is over, so that the weights are those of a whole step."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hold signals back."""
        self.signals.hold = True

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Let a held-back signal through."""
        self.signals.raise_pending()

    on_validation_batch_end = on_train_batch_end

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let signals through."""
        self.signals.hold = False
        self.signals.raise_pending()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let signals through."""
        self.signals.hold = False
