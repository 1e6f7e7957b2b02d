"""End at the next step boundary where a signal has asked for it, all ranks at the same one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.exits import Signals
from peftlab.processes import over_ranks


class Interruption(Callback):
    """While training, holds signals back until a step is over, and has a checkpoint made of it.

    A validation is left at its next batch, to be begun anew. With several ranks signals are held back while evaluating,
    too: a rank that ends alone leaves the others waiting.

    Args:
        signals: what is held back.
        save: makes the checkpoint; None: there is none to be made.
    """

    def __init__(self, signals: Signals, save: Callable[[L.Trainer], None] | None = None) -> None:
        self.signals, self.save = signals, save

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hold signals back."""
        self.signals.hold = True
        self.signals.listen()  # again: Lightning has put a handler of its own before ours

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let a held-back signal through where the step before is over."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._let_through(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over from Lightning's handler, and let a held-back signal through."""
        self.signals.listen()
        self._let_through(trainer)

    on_test_start = on_validation_start

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Let a held-back signal through."""
        self._let_through(trainer)

    on_test_batch_end = on_validation_batch_end

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let signals through."""
        self.signals.hold = trainer.world_size > 1
        self._let_through(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let signals through."""
        self.signals.hold = False

    def _let_through(self, trainer: L.Trainer) -> None:
        """Raise `Interrupted` where any rank has got a signal."""
        (number,) = over_ranks([self.signals.pending or 0], "max")
        self.signals.pending = int(number) or None
        if self.signals.pending is not None and self.save is not None and trainer.state.fn == "fit":
            self.save(trainer)
        self.signals.raise_pending()
