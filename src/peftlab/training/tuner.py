"""The LightningModule for every model, task, method, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from peftlab.data.module import DataModule
from peftlab.devices.sharding import load_everywhere, shard, whole
from peftlab.methods.method import Method, MethodContext
from peftlab.regularizers.regularizer import Regularizer, Term
from peftlab.schedules import Schedule
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task
from peftlab.training.fitting import fit_head
from peftlab.training.objective import Objective
from peftlab.training.optimizers import OptimizerSpec
from peftlab.training.rules import Rules
from peftlab.training.step_log import StepLog
from peftlab.training.stepping import Stepping


class Tuner(Stepping):
    """Trains the parameters that `method` left trainable in `model`, on the loss of `task` and its `regularizers`.

    Takes steps, see `Stepping`, and logs them, see `StepLog`; scores, see `Scoring`.
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
        self.head_from: DataModule | None = None
        """What the task fits its head to before each validation, in training; None: it does not."""
        self.strict_loading = False  # a checkpoint holds only the trained parameters
        self.step_log = StepLog(self, optimizer)
        self._set_up_steps()

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
        self.head_from = None  # it is among the weights
        load_everywhere(self.trained(), path)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store only the trained weights: the others can be derived.

        Raises:
            NonFiniteError: a step before was not finite.
        """
        self.settle()
        checkpoint["state_dict"] = {f"model.{name}": tensor for name, tensor in self.rules.in_training.items()}
        checkpoint["skipped_in_a_row"] = self.guards.finite.skipped
        checkpoint |= self.rules.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint holds exactly the trained weights; DeepSpeed stores and checks them itself.

        Raises:
            ValueError: weights are missing or superfluous.
        """
        self.guards.finite.skipped = checkpoint.get("skipped_in_a_row", 0)  # older checkpoints lack it
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
        return [*(f"validation/{name}" for name in self.task.watched), "train/loss", "train/grad_norm", *terms]

    def on_train_start(self) -> None:
        """Show the weight rules the weights that training starts from."""
        super().on_train_start()
        if self.trainer.global_step == 0:
            self.rules.begin(self.trainer.optimizers[0])

    def on_validation_model_eval(self) -> None:
        """Read the checks of the steps so far while the model is in training mode: a step may have to be repeated."""
        self.settle()
        super().on_validation_model_eval()

    def on_validation_start(self) -> None:
        """Put the average of the weights in place, where a rule keeps one, and a head that is fitted to it."""
        if self.rules.use_average():
            self.method.after_average(self.model)
        if self.head_from is not None:
            fit_head(self, self.head_from)

    def on_validation_end(self) -> None:
        """Go on with the weights themselves."""
        self.rules.restore()

    @property
    def planned_steps(self) -> int:
        """The optimiser steps of the whole training."""
        return int(self.trainer.estimated_stepping_batches)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser, and its schedule over all steps of the run."""
        factor = self.rules.factor(self.context.head, self.method.learning_rate_factor)
        optimizer = self.optimizer_spec.attach(self.model, self.context.head, factor)
        steps = self.planned_steps
        self.context = replace(self.context, steps=steps)
        scheduler = self.schedule.attach(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
