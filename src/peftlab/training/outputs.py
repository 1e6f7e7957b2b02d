"""Give callbacks the loss of a step where Lightning callbacks expect it."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.training.tuner import Tuner


class Outputs(Callback):
    """Puts the loss of the step into ``outputs["loss"]`` for the callbacks after it.

    Lightning stores there what `Tuner.training_step` returned, before the step was computed.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Set it: on several devices, this device's part of the loss."""
        assert isinstance(pl_module, Tuner)
        outputs["loss"] = pl_module.step_loss
