"""Logs what happens in a training step: its loss, its learning rates and the norm of its gradient."""

from __future__ import annotations

from collections.abc import Mapping

import lightning as L
import torch
from torch import Tensor

from peftlab.training.optimizers import OptimizerSpec
from peftlab.training.step import Step


class StepLog:
    """Logs every n-th training step of `module`, n being Lightning's ``log_every_n_steps``.

    Names are ``train/loss``, ``train/NAME`` for what each regulariser adds to it, ``train/lr`` (and ``train/head_lr``
    where the head has its own learning rate), and ``train/grad_norm`` (before clipping).

    Rows have the form of those that ``self.log`` makes, without its work in every step: callbacks find the values among
    ``trainer.callback_metrics`` in the same step, and loggers get them after the callbacks.
    """

    def __init__(self, module: L.LightningModule, optimizer: OptimizerSpec) -> None:
        self.module, self.optimizer = module, optimizer
        self._row: dict[str, Tensor] = {}

    def is_due(self, step: int) -> bool:
        """Return whether step `step`, counted from 1, is logged."""
        every: int = self.module.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it elsewhere
        return step % every == 0

    def take(self, step: Step, norm: Tensor | None) -> None:
        """Read the figures of `step`, if it is due.

        Args:
            step: a step of the training whose gradient is computed.
            norm: the norm of the gradient over all ranks, a scalar; None: it is not known.
        """
        assert step.number is not None
        if not self.is_due(step.number):
            return
        trainer = self.module.trainer
        of_ranks = {"train/loss": step.loss, **{f"train/{name}": term for name, term in step.terms.items()}}
        values = {  # copies, since ranks sum in place
            name: trainer.strategy.reduce(value.detach().to(step.device).clone(), reduce_op="sum")
            for name, value in of_ranks.items()
        }
        if norm is not None:
            values["train/grad_norm"] = norm
        self.show(fetched(values) | {name: torch.tensor(rate) for name, rate in self._learning_rates().items()})

    def show(self, row: Mapping[str, Tensor]) -> None:
        """Show callbacks the scalars of `row`, by name, and have `write` give them to the loggers."""
        self._row = dict(row)
        self.module.trainer.callback_metrics.update(self._row)
        self.module.trainer.logged_metrics.update(self._row)

    def write(self) -> None:
        """Give the loggers what `take` has read of the step that is over, if anything."""
        if not self._row:
            return
        trainer = self.module.trainer
        row = {name: value.item() for name, value in self._row.items()} | {"epoch": trainer.current_epoch}
        self._row = {}
        for logger in trainer.loggers:
            logger.log_metrics(row, trainer.global_step - 1)
            logger.save()

    def _learning_rates(self) -> dict[str, float]:
        peaks = {self.optimizer.head_lr: "train/head_lr", self.optimizer.lr: "train/lr"}
        rates: dict[str, float] = {}
        for group in self.module.trainer.optimizers[0].param_groups:
            if group["initial_lr"] in peaks:
                rates[peaks[group["initial_lr"]]] = group["lr"]
            else:  # a method or a rule has given it a multiple of the peak, and perhaps no group has the peak itself
                rates.setdefault("train/lr", group["lr"] / group["initial_lr"] * self.optimizer.lr)
        return rates


def fetched(scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `scalars`, by name, on the CPU; those of a GPU come in one message."""
    if all(value.device.type == "cpu" for value in scalars.values()):
        return {name: value.detach() for name, value in scalars.items()}
    together = torch.stack([value.detach().double() for value in scalars.values()]).cpu()
    return {name: value.to(scalars[name].dtype) for name, value in zip(scalars, together, strict=True)}
