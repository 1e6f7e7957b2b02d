"""End a run at the next step boundary after a signal, at the same step on all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.devices.processes import over_ranks
from peftlab.terminal.signals import Pruned, Signals


class Interruption(Callback):
    """Delivers a held-back signal when a step or an evaluation batch is over.

    A checkpoint is made first; a validation is left at its next batch and repeated from the start. A run with `pruned`
    set ends in the same way.

    Args:
        signals: the held-back signals.
        save: makes the checkpoint.
    """

    def __init__(self, signals: Signals, save: Callable[[L.Trainer], None]) -> None:
        self.signals, self.save = signals, save
        self.pruned = False

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Deliver it: the previous step is over."""
        self._deliver(trainer)

    on_validation_start = on_validation_batch_end = on_test_start = on_test_batch_end = on_train_batch_start
    on_train_end = on_train_batch_start

    def _deliver(self, trainer: L.Trainer) -> None:
        """Raise `Interrupted` where any rank has received a signal, `Pruned` where the run is pruned."""
        number, pruned = over_ranks([self.signals.pending or 0, self.pruned], "max")
        self.signals.pending = int(number) or None
        if (self.signals.pending is not None or pruned) and trainer.state.fn == "fit":
            self.save(trainer)
        self.signals.raise_pending()
        if pruned:
            raise Pruned
