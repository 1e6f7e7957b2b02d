"""The one LightningModule: any model, task, method, optimiser and schedule."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from peftlab.methods.method import Method, MethodContext
from peftlab.optimization import OptimizerSpec
from peftlab.schedules import Schedule
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
        self.scores = nn.ModuleDict({split: task.metric() for split in ("validation", "test")})

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits of `batch`."""
        logits: Tensor = self.model(**batch["inputs"]).logits
        return logits

    def trained(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold, see `Method.trained`."""
        return self.method.trained(self.model)

    def metric(self, split: str) -> Metric:
        """Return the scores of ``validation`` or ``test``."""
        return self.scores[split]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss = self.task.loss(self(batch), batch)
        self.log("train/loss", loss.detach(), batch_size=self.task.weight(batch))
        self.log_dict(self._learning_rates(), batch_size=1)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm of the whole gradient, as Lightning does, and log that norm."""
        parameters = list(self.trainer.precision_plugin.main_params(optimizer))
        if gradient_clip_val is None:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        else:
            norm = nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        self.log("train/grad_norm", norm, batch_size=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions of one batch, which also count for the scores."""
        return self._evaluate(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions of one batch, which also count for the scores."""
        return self._evaluate(batch, "test")

    def on_fit_start(self) -> None:
        """Turn dropout on: a model comes from `from_pretrained` in evaluation mode."""
        self.train()

    def on_validation_epoch_start(self) -> None:
        """Begin the scores anew."""
        self.metric("validation").reset()

    def on_test_epoch_start(self) -> None:
        """Begin the scores anew."""
        self.metric("test").reset()

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

    def _learning_rates(self) -> dict[str, float]:
        peaks = {self.optimizer_spec.head_lr: "train/head_lr", self.optimizer_spec.lr: "train/lr"}
        groups = self.trainer.optimizers[0].param_groups
        return {peaks[group["initial_lr"]]: group["lr"] for group in groups}

    def _evaluate(self, batch: Batch, split: str) -> list[dict[str, Any]]:
        logits = self(batch)
        self.log(f"{split}/loss", self.task.loss(logits, batch), batch_size=self.task.weight(batch))
        predictions = self.task.decode(logits, batch)
        self.task.update(self.metric(split), predictions)
        return predictions

    def _log_scores(self, split: str) -> None:
        self.log_dict({f"{split}/{name}": value for name, value in self.metric(split).compute().items()})
