"""The LightningModule for every model, task, method, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from peftlab.devices.sharding import load_everywhere, shard, unsharded, whole
from peftlab.methods.method import Method, MethodContext
from peftlab.regularizers.regularizer import Regularizer, Term
from peftlab.schedules import Schedule
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task
from peftlab.training.effects import Effects
from peftlab.training.non_finite import StepSkippedError, find
from peftlab.training.objective import Losses, Objective
from peftlab.training.optimizers import OptimizerSpec
from peftlab.training.rules import Rules
from peftlab.training.scoring import Scoring
from peftlab.training.step import Step
from peftlab.training.step_log import StepLog


class Seat(Protocol):
    """The place of a run among others that compute the gradients of their steps together."""

    def gradient(self, step: Step, alone: Callable[[], None]) -> None:
        """Set the parameters' gradients to that of `step`, which `alone` would do."""


class Tuner(Scoring):
    """Trains the parameters that `method` left trainable in `model`, on the loss of `task` and its `regularizers`.

    Logs training steps, see `StepLog`, and scores, see `Scoring`.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        method: Method,
        context: MethodContext,
        optimizer: OptimizerSpec,
        schedule: Schedule,
        regularizers: Mapping[str, Regularizer] | None = None,
        special: Sequence[int] = (),
    ) -> None:
        super().__init__(model, task)
        self.method, self.context = method, context
        self.optimizer_spec, self.schedule = optimizer, schedule
        acting = {name: each for name, each in (regularizers or {}).items() if each.off is None}
        terms = {name: each for name, each in acting.items() if isinstance(each, Term)}
        self.objective = Objective(task, method, model, terms, torch.tensor(special) if special else None)
        self.rules = Rules(acting, model, self.trained)
        self.strict_loading = False  # a checkpoint holds only the trained parameters
        self._step: Step | None = None
        self._placeholder: Tensor | None = None
        self._loss_scale: Tensor | None = None
        self._number: int | None = None
        self.step_log = StepLog(self, optimizer)
        self.effects = Effects()
        self.seat: Seat | None = None

    def forward(self, batch: Batch) -> Any:
        """Return the model's outputs for `batch`, a transformers `ModelOutput`."""
        if not self.training or not self.rules.of_passes:
            return super().forward(batch)
        with self.rules.passing(batch):
            return super().forward(batch)

    def trained(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint holds, see `Method.trained`; of a sharded model, this rank's shards."""
        return self.method.trained(self.model)

    def weights(self) -> dict[str, Tensor]:
        """Return the same tensors unsharded; every rank of a sharded model must call this."""
        return whole(self.trained())

    def load_weights(self, path: Path) -> None:
        """Load `weights` saved to `path`, a file that only rank 0 needs, when training is over.

        Raises:
            ValueError: on rank 0, if they belong to another model.
        """
        self.rules.end()
        load_everywhere(self.trained(), path)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store only the trained weights: the others can be derived."""
        checkpoint["state_dict"] = {f"model.{name}": tensor for name, tensor in self.rules.in_training.items()}
        checkpoint |= self.rules.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint holds exactly the trained weights; DeepSpeed stores and checks them itself.

        Raises:
            ValueError: weights are missing or superfluous.
        """
        self.rules.load_state(checkpoint)
        if "state_dict" not in checkpoint:
            return
        odd = sorted(checkpoint["state_dict"].keys() ^ {f"model.{name}" for name in self.trained()})
        if odd:
            raise ValueError(f"{len(odd)} tensors are only in the checkpoint or only in the model, first {odd[0]}")

    def configure_model(self) -> None:
        """Shard the model if the strategy has set up a device mesh."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def logged(self) -> list[str]:
        """Return the names of the logged values that a callback may monitor."""
        terms = [f"train/{name}" for name in self.objective.terms]
        return [*(f"validation/{name}" for name in self.task.directions), "train/loss", "train/grad_norm", *terms]

    @property
    def step_loss(self) -> Tensor:
        """This rank's share of the last step's loss, over all its forward passes; before clipping and scaling."""
        return torch.tensor(0.0) if self._step is None else self._step.loss

    def training_step(self, parts: list[Batch], batch_idx: int) -> Tensor:
        """Return a placeholder for the loss, NaN: `backward` computes the step, part by part.

        DeepSpeed's engine gets the loss itself, because it runs the backward pass.
        """
        strategy = self.trainer.strategy
        self._number = self.trainer.global_step + 1
        self._step = Step(
            parts,
            [parameter for group in self.trainer.optimizers[0].param_groups for parameter in group["params"]],
            self.guards.training,
            self.trainer.precision_plugin.forward_context,
            self.trainer.world_size,
            averages=isinstance(strategy, DDPStrategy),
        )
        if isinstance(strategy, DeepSpeedStrategy):
            return self._step.whole(self.losses_of)
        self._placeholder = torch.full((), torch.nan, device=self.device, requires_grad=True)
        return self._placeholder

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradient of the step; that of the placeholder is the factor by which fp16 scales the loss."""
        assert self._step is not None
        assert self._placeholder is not None
        super().backward(loss)
        self.take_gradient(self._step, self._placeholder.grad)

    def take_gradient(self, step: Step, scale: Tensor | None = None) -> None:
        """Set the parameters' gradients to that of `step`, times `scale`, computed by the step rule if there is one."""
        self._loss_scale = scale
        alone = partial(step.take, self.rules.of_step, self.losses_of, scale)
        if self.seat is None:
            alone()
        else:
            self.seat.gradient(step, alone)

    def losses_of(self, batch: Batch) -> Losses:
        """Run the model on `batch` and return the losses that training minimises."""
        return self.objective(self, batch, self._number, self._loss_scale)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step; one that is left out changes neither the model nor the optimiser."""
        step = self.trainer.global_step + 1
        try:
            super().optimizer_step(*args, **kwargs)
        except StepSkippedError:
            if (scaler := scaler_of(self.trainer)) is not None:
                scaler.update()  # as after a step that it skips itself: the loss scale shrinks
            return
        self.method.after_step(self.model, step, self.context)
        self.rules.after_step(self.trainer.optimizers[0], step, int(self.trainer.estimated_stepping_batches))
        assert self._step is not None
        self.effects.after_step(self._step, step, self.trainer.strategy)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Log the step, check that it is finite, and clip by the norm of the whole gradient, as Lightning does.

        The check covers the gradient and the weights that the last step left, and reads one number from the device.
        DeepSpeed clips and logs the norm itself; there, the check only covers the loss.
        """
        assert self._step is not None
        self.step_log.losses(self._step)
        if isinstance(self.trainer.strategy, DeepSpeedStrategy):
            if not torch.isfinite(self.trainer.strategy.reduce(self.step_loss)):
                self._handle_non_finite()
            return
        parameters = list(self.trainer.precision_plugin.main_params(optimizer))
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        total = unsharded(norm)
        self.step_log.gradient_norm(total)
        with torch.no_grad():
            weights = nn.utils.get_total_norm(parameters)
        if torch.isfinite(total + 0 * unsharded(weights)):
            self.guards.finite.passed()
        else:
            self._handle_non_finite()
        if gradient_clip_val is not None:
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
        self.rules.before_step(optimizer, self.trainer.global_step + 1)

    def _handle_non_finite(self) -> None:
        """Locate the values that are not finite, then end the run or leave the step out."""
        assert self._step is not None
        with self.trainer.precision_plugin.forward_context():
            parts = self._step.on_device()
            finding = find(self.model, parts, self.step_loss, self.losses_of, self.objective.differentiates)
        scale = None if (scaler := scaler_of(self.trainer)) is None else scaler.get_scale()
        self.guards.finite.failed(self.trainer.global_step + 1, finding, scale)

    def on_fit_start(self) -> None:
        """Turn dropout on: `from_pretrained` returns a model in evaluation mode."""
        self.train()
        wrapper = self.trainer.strategy.model
        if isinstance(wrapper, DistributedDataParallel):
            wrapper.require_backward_grad_sync = False  # as in its `no_sync`: `Step` averages, once
        if self.global_rank:  # so that dropout differs between ranks
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_train_start(self) -> None:
        """Show the weight rules the weights that training starts from."""
        if self.trainer.global_step == 0:
            self.rules.begin(self.trainer.optimizers[0])

    def on_validation_start(self) -> None:
        """Validate, and keep as the best, the average of the weights where a rule keeps one."""
        self.rules.use_average()

    def on_validation_end(self) -> None:
        """Go on with the weights themselves."""
        self.rules.restore()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser, and its schedule over all steps of the run."""
        factor = self.rules.factor(self.context.head, self.method.learning_rate_factor)
        optimizer = self.optimizer_spec.attach(self.model, self.context.head, factor)
        steps = int(self.trainer.estimated_stepping_batches)
        self.context = replace(self.context, steps=steps)
        scheduler = self.schedule.attach(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def scaler_of(trainer: L.Trainer) -> torch.amp.GradScaler | None:
    """Return what scales the loss in fp16; None in another precision."""
    return getattr(trainer.precision_plugin, "scaler", None)
