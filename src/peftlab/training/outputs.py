"""Tell callbacks the loss of a step, where Lightning's idiom has it."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.training.tuner import Tuner


class Outputs(Callback):
    """Puts the loss of the step into ``outputs["loss"]`` of the callbacks that come after it.

    Lightning keeps there what `Tuner.training_step` has returned, when the step was still to be computed.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Put it there: of several devices, this one's part."""
        assert isinstance(pl_module, Tuner)
        outputs["loss"] = pl_module.step_loss
