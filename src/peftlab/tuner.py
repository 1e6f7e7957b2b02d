"""The one LightningModule: any model, task, method, optimiser and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DeepSpeedStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torchmetrics import MeanMetric, Metric

from peftlab.methods.method import Method, MethodContext
from peftlab.optimization import OptimizerSpec
from peftlab.schedules import Schedule
from peftlab.sharding import load_everywhere, shard, whole
from peftlab.tasks.task import Batch, Task


class Tuner(L.LightningModule):
    """Trains what `method` left trainable in `model` on the loss of `task`.

    Logs ``train/loss``, ``train/lr`` (and ``train/head_lr`` where the head has a rate of its own), ``train/grad_norm``
    (before clipping), and ``validation/...`` and ``test/...`` for the loss and every score.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        method: Method,
        context: MethodContext,
        optimizer: OptimizerSpec,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        self.model, self.task, self.method, self.context = model, task, method, context
        self.optimizer_spec, self.schedule = optimizer, schedule
        splits = ("validation", "test")
        self.scores = nn.ModuleDict({split: task.metric() for split in splits})
        # Lightning's own mean rounds the weights when it averages them over ranks
        self.losses = nn.ModuleDict({split: MeanMetric(nan_strategy="disable") for split in splits})
        self._step_loss = torch.tensor(0.0)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits of `batch`."""
        logits: Tensor = self.model(**batch["inputs"]).logits
        return logits

    def trained(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold, see `Method.trained`; of a sharded model, what this rank has of it."""
        return self.method.trained(self.model)

    def weights(self) -> dict[str, Tensor]:
        """Return the same in one piece; of a sharded model, all ranks have to ask for it."""
        return whole(self.trained())

    def load_weights(self, path: Path) -> None:
        """Take up `weights` as they were saved to `path`, a file that only rank 0 needs to have.

        Raises:
            ValueError: on rank 0: they are not those of this model.
        """
        load_everywhere(self.trained(), path)

    def configure_model(self) -> None:
        """Shard the model where the strategy has laid out the devices for it."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def metric(self, split: str) -> Metric:
        """Return the scores of ``validation`` or ``test``."""
        return self.scores[split]

    def mean_loss(self, split: str) -> Metric:
        """Return the mean of the losses of ``validation`` or ``test``, each counted by its `Task.weight`."""
        return self.losses[split]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a part of a batch, scaled so that the step's gradient is that of the batch's mean loss.

        Lightning divides by the forward passes of a step, and the strategy takes the mean over ranks.
        """
        loss = self.task.loss(self(batch), batch)
        self._log_step(loss.detach() * batch["share"], batch_idx)
        return loss * (batch["share"] * self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm of the whole gradient, as Lightning does, and log that norm; DeepSpeed does both itself."""
        if isinstance(self.trainer.strategy, DeepSpeedStrategy):
            return
        parameters = list(self.trainer.precision_plugin.main_params(optimizer))
        if gradient_clip_val is None:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        else:
            norm = nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        if self._is_logged():
            self.log("train/grad_norm", norm.full_tensor() if isinstance(norm, DTensor) else norm, batch_size=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions of one batch, which also count for the scores."""
        return self._evaluate(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions of one batch, which also count for the scores."""
        return self._evaluate(batch, "test")

    def on_fit_start(self) -> None:
        """Turn dropout on: a model comes from `from_pretrained` in evaluation mode."""
        self.train()
        if self.global_rank:  # the ranks have other examples: let dropout not hit the same places in all
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_validation_epoch_start(self) -> None:
        """Begin the scores anew."""
        self._reset("validation")

    def on_test_epoch_start(self) -> None:
        """Begin the scores anew."""
        self._reset("test")

    def on_validation_epoch_end(self) -> None:
        """Log the scores over the whole split."""
        self._log_scores("validation")

    def on_test_epoch_end(self) -> None:
        """Log the scores over the whole split."""
        self._log_scores("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its schedule over all steps of the run."""
        optimizer = self.optimizer_spec.attach(self.model, self.context.head)
        scheduler = self.schedule.attach(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _log_step(self, loss: Tensor, batch_idx: int) -> None:
        """Add up the loss of a step over its forward passes; where that is due, log it and the learning rates."""
        position = batch_idx % self.trainer.accumulate_grad_batches
        self._step_loss = loss if position == 0 else self._step_loss + loss
        last = position == self.trainer.accumulate_grad_batches - 1
        if last and self._is_logged():
            self.log("train/loss", self._step_loss, reduce_fx="sum", sync_dist=True)
            self.log_dict(self._learning_rates(), batch_size=1)

    def _is_logged(self) -> bool:
        """Return whether the loggers get a row of this step: logging costs more than a small step."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it elsewhere
        return (self.trainer.global_step + 1) % every == 0

    def _learning_rates(self) -> dict[str, float]:
        peaks = {self.optimizer_spec.head_lr: "train/head_lr", self.optimizer_spec.lr: "train/lr"}
        groups = self.trainer.optimizers[0].param_groups
        return {peaks[group["initial_lr"]]: group["lr"] for group in groups}

    def _evaluate(self, batch: Batch, split: str) -> list[dict[str, Any]]:
        logits = self(batch)
        if not batch["examples"]:
            return []
        self.mean_loss(split).update(self.task.loss(logits, batch).float(), self.task.weight(batch))
        predictions = self.task.decode(logits, batch)
        self.task.update(self.metric(split), predictions)
        return predictions

    def _reset(self, split: str) -> None:
        self.metric(split).reset()
        self.mean_loss(split).reset()

    def _log_scores(self, split: str) -> None:
        values = {"loss": self.mean_loss(split).compute(), **self.metric(split).compute()}
        self.log_dict({f"{split}/{name}": value for name, value in values.items()})
