"""The LightningModule for every model, task, method, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from peftlab.devices.sharding import load_everywhere, shard, unsharded, whole
from peftlab.methods.method import Method, MethodContext
from peftlab.regularizers.regularizer import Regularizer, StepRule, Term, WeightRule
from peftlab.runs.record import SCORED
from peftlab.schedules import Schedule
from peftlab.tasks.batch import Batch
from peftlab.tasks.metric import ScorerMetric
from peftlab.tasks.task import Task
from peftlab.training.evaluation import Evaluation
from peftlab.training.guards import Guards
from peftlab.training.non_finite import StepSkippedError, find
from peftlab.training.objective import Losses, Objective
from peftlab.training.optimizers import OptimizerSpec
from peftlab.training.step import Step
from peftlab.training.step_log import StepLog
from peftlab.training.weight_rules import WeightRules


class Tuner(L.LightningModule):
    """Trains the parameters that `method` left trainable in `model`, on the loss of `task` and its `regularizers`.

    Logs training steps (see `StepLog`), and the loss and every score as ``validation/...`` and ``test/...``.
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
    ) -> None:
        super().__init__()
        self.model, self.task, self.method, self.context = model, task, method, context
        self.optimizer_spec, self.schedule = optimizer, schedule
        self.evaluations = nn.ModuleDict({split: Evaluation(task) for split in SCORED})
        chosen = regularizers or {}
        self.objective = Objective(task, method, model, {n: r for n, r in chosen.items() if isinstance(r, Term)})
        self.weight_rules = WeightRules({n: r for n, r in chosen.items() if isinstance(r, WeightRule)}, model)
        self.step_rule = next((rule for rule in chosen.values() if isinstance(rule, StepRule)), None)
        self.strict_loading = False  # a checkpoint holds only the trained parameters
        self._step: Step | None = None
        self._placeholder: Tensor | None = None
        self.step_log = StepLog(self, optimizer)
        self.guards = Guards()

    def forward(self, batch: Batch) -> Any:
        """Return the model's outputs for `batch`, a transformers `ModelOutput`."""
        return self.model(**batch.inputs)

    def trained(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint holds, see `Method.trained`; of a sharded model, this rank's shards."""
        return self.method.trained(self.model)

    def weights(self) -> dict[str, Tensor]:
        """Return the same tensors unsharded; every rank of a sharded model must call this."""
        return whole(self.trained())

    def load_weights(self, path: Path) -> None:
        """Load `weights` saved to `path`, a file that only rank 0 needs.

        Raises:
            ValueError: on rank 0, if they belong to another model.
        """
        load_everywhere(self.trained(), path)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store only the trained weights: the others can be derived."""
        checkpoint["state_dict"] = {f"model.{name}": tensor for name, tensor in self.trained().items()}
        checkpoint |= self.weight_rules.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint holds exactly the trained weights; DeepSpeed stores and checks them itself.

        Raises:
            ValueError: weights are missing or superfluous.
        """
        self.weight_rules.load_state(checkpoint)
        if "state_dict" not in checkpoint:
            return
        odd = sorted(checkpoint["state_dict"].keys() ^ {f"model.{name}" for name in self.trained()})
        if odd:
            raise ValueError(f"{len(odd)} tensors are only in the checkpoint or only in the model, first {odd[0]}")

    def configure_model(self) -> None:
        """Shard the model if the strategy has set up a device mesh."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def evaluation(self, split: str) -> Evaluation:
        """Return the evaluation of ``validation`` or ``test``."""
        evaluation = self.evaluations[split]
        assert isinstance(evaluation, Evaluation)
        return evaluation

    def metric(self, split: str) -> ScorerMetric:
        """Return the scores of ``validation`` or ``test``."""
        return self.evaluation(split).metric

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
        step.take(self.step_rule, self.losses_of, scale)

    def losses_of(self, batch: Batch) -> Losses:
        """Run the model on `batch` and return the losses that training minimises."""
        return self.objective(self, batch)

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
        self.weight_rules.after_step(self.trainer.optimizers[0])

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

    def _handle_non_finite(self) -> None:
        """Locate the values that are not finite, then end the run or leave the step out."""
        assert self._step is not None
        with self.trainer.precision_plugin.forward_context():
            parts = self._step.on_device()
            finding = find(self.model, parts, self.step_loss, self.losses_of, self.objective.differentiates)
        scale = None if (scaler := scaler_of(self.trainer)) is None else scaler.get_scale()
        self.guards.finite.failed(self.trainer.global_step + 1, finding, scale)

    def validation_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions for one batch, and add them to the scores."""
        return self._evaluate(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions for one batch, and add them to the scores."""
        return self._evaluate(batch, "test")

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
            self.weight_rules.begin(self.trainer.optimizers[0])

    def on_validation_epoch_start(self) -> None:
        """Reset the scores."""
        self.evaluation("validation").reset()

    def on_test_epoch_start(self) -> None:
        """Reset the scores."""
        self.evaluation("test").reset()

    def on_validation_epoch_end(self) -> None:
        """Log the scores over the whole split."""
        self._log_scores("validation")

    def on_test_epoch_end(self) -> None:
        """Log the scores over the whole split."""
        self._log_scores("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser, and its schedule over all steps of the run."""
        optimizer = self.optimizer_spec.attach(self.model, self.context.head, self.method.learning_rate_factor)
        steps = int(self.trainer.estimated_stepping_batches)
        self.context = replace(self.context, steps=steps)
        scheduler = self.schedule.attach(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _evaluate(self, batch: Batch, split: str) -> list[dict[str, Any]]:
        return self.evaluation(split).take(batch, self.guards.evaluation, self._predict)

    def _predict(self, batch: Batch) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the loss of `batch` and its predictions; a filler has none."""
        batch = batch.to(self.device)
        outputs = self(batch)
        answers: list[dict[str, Any]] = []
        if batch.examples:
            final = is_last_validation(self.trainer)
            answers = self.task.answers(outputs, batch, self.model, final)
            if final:
                answers = [self.task.kept(*both) for both in zip(batch.examples, answers, strict=True)]
        return self.objective.evaluated(outputs, batch), answers

    def _log_scores(self, split: str) -> None:
        self.log_dict({f"{split}/{name}": value for name, value in self.evaluation(split).values().items()})


def is_last_validation(trainer: L.Trainer) -> bool:
    """Return whether this evaluation comes after training, or after the last step of the budget."""
    return trainer.state.fn != "fit" or trainer.global_step == trainer.estimated_stepping_batches


def scaler_of(trainer: L.Trainer) -> torch.amp.GradScaler | None:
    """Return what scales the loss of fp16; None in another precision."""
    return getattr(trainer.precision_plugin, "scaler", None)
