"""Logs what happens in a training step: its loss, its learning rates and the norm of its gradient."""

from __future__ import annotations

import lightning as L
from torch import Tensor

from peftlab.training.optimizers import OptimizerSpec
from peftlab.training.step import Step


class StepLog:
    """Logs every n-th training step of `module`, n being Lightning's ``log_every_n_steps``.

    Names are ``train/loss``, ``train/NAME`` for what each regulariser adds to it, ``train/lr`` (and ``train/head_lr``
    where the head has its own learning rate), and ``train/grad_norm`` (before clipping).
    """

    def __init__(self, module: L.LightningModule, optimizer: OptimizerSpec) -> None:
        self.module, self.optimizer = module, optimizer

    @property
    def is_due(self) -> bool:
        """Whether this step is logged: logging costs more than a small step."""
        trainer = self.module.trainer
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it elsewhere
        return (trainer.global_step + 1) % every == 0

    def losses(self, step: Step) -> None:
        """Log the loss of `step`, its terms and the learning rates."""
        if self.is_due:
            self.module.log("train/loss", step.loss, reduce_fx="sum", sync_dist=True, batch_size=1)
            for name, term in step.terms.items():
                self.module.log(f"train/{name}", term, reduce_fx="sum", sync_dist=True, batch_size=1)
            self.module.log_dict(self._learning_rates(), batch_size=1)

    def gradient_norm(self, norm: Tensor) -> None:
        """Log the norm of the gradient over all ranks."""
        if self.is_due:
            self.module.log("train/grad_norm", norm, batch_size=1)

    def _learning_rates(self) -> dict[str, float]:
        peaks = {self.optimizer.head_lr: "train/head_lr", self.optimizer.lr: "train/lr"}
        groups = self.module.trainer.optimizers[0].param_groups
        # a method may have groups with further rates, which are multiples of these
        return {peaks[group["initial_lr"]]: group["lr"] for group in groups if group["initial_lr"] in peaks}
