"""End at the next step boundary where a signal has asked for it, all ranks at the same one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.devices.processes import over_ranks
from peftlab.terminal.signals import Pruned, Signals


class Interruption(Callback):
    """Lets a signal that is held back through where a step or a batch of an evaluation is over.

    Of a step a checkpoint is made before; a validation is left at its next batch, to be begun anew. Where `pruned` has
    been set, the run ends in the same way.

    Args:
        signals: what is held back.
        save: makes the checkpoint.
    """

    def __init__(self, signals: Signals, save: Callable[[L.Trainer], None]) -> None:
        self.signals, self.save = signals, save
        self.pruned = False

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Let it through: the step before is over."""
        self._let_through(trainer)

    on_validation_start = on_validation_batch_end = on_test_start = on_test_batch_end = on_train_batch_start
    on_train_end = on_train_batch_start

    def _let_through(self, trainer: L.Trainer) -> None:
        """Raise `Interrupted` where any rank has got a signal, `Pruned` where the run is pruned."""
        number, pruned = over_ranks([self.signals.pending or 0, self.pruned], "max")
        self.signals.pending = int(number) or None
        if (self.signals.pending is not None or pruned) and trainer.state.fn == "fit":
            self.save(trainer)
        self.signals.raise_pending()
        if pruned:
            raise Pruned
