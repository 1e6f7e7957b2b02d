"""The one LightningModule: any model, task, method, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from peftlab.devices.sharding import load_everywhere, shard, whole
from peftlab.methods.method import Method, MethodContext
from peftlab.regularizers.regularizer import Regularizer, StepRule, Term, WeightRule
from peftlab.schedules import Schedule
from peftlab.tasks.batch import Batch
from peftlab.tasks.metric import ScorerMetric
from peftlab.tasks.task import Task
from peftlab.training.evaluation import Evaluation
from peftlab.training.micro_batches import Halve, MicroBatches, Note
from peftlab.training.non_finite import FiniteGuard, StepSkippedError, find
from peftlab.training.objective import Losses, Objective
from peftlab.training.optimizers import OptimizerSpec
from peftlab.training.step import Step
from peftlab.training.weight_rules import WeightRules


class Tuner(L.LightningModule):
    """Trains what `method` left trainable in `model` on the loss of `task`, with `regularizers` by name.

    Logs ``train/loss``, ``train/NAME`` for what each regulariser adds to it, ``train/lr`` (and ``train/head_lr`` where
    the head has a rate of its own), ``train/grad_norm`` (before clipping), and ``validation/...`` and ``test/...`` for
    the loss and every score.
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
        self.evaluations = nn.ModuleDict({split: Evaluation(task) for split in ("validation", "test")})
        chosen = regularizers or {}
        self.objective = Objective(task, method, model, {n: r for n, r in chosen.items() if isinstance(r, Term)})
        self.weight_rules = WeightRules({n: r for n, r in chosen.items() if isinstance(r, WeightRule)}, model)
        self.step_rule = next((rule for rule in chosen.values() if isinstance(rule, StepRule)), None)
        self.strict_loading = False  # a checkpoint holds what is trained
        self._step: Step | None = None
        self._stand_in: Tensor | None = None
        self.guard()

    def guard(
        self,
        on_nan: Literal["stop", "skip_batch"] = "stop",
        halve: Halve | None = None,
        note: Note = lambda event, **details: None,
    ) -> None:
        """Say what happens when numbers go wrong or memory runs out.

        Args:
            on_nan: whether a step with NaN or infinities ends the run or is left out.
            halve: makes two batches of one that does not fit in memory; None: the run ends. Where a model is
                sharded, the forward pass of a piece would wait for the other ranks: it has to be None.
            note: called with an event and its details when one of this has happened.
        """
        self.finite = FiniteGuard(on_nan, note)
        self.training_pieces = MicroBatches("training", halve, note)
        self.evaluation_pieces = MicroBatches("evaluation", halve, note)

    def forward(self, batch: Batch) -> Any:
        """Return the outputs of the model for `batch`, as transformers has them."""
        return self.model(**batch.inputs)

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep of the weights what is trained, of which the rest follows."""
        checkpoint["state_dict"] = {f"model.{name}": tensor for name, tensor in self.trained().items()}
        checkpoint |= self.weight_rules.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint has all of it; DeepSpeed keeps the weights apart, and checks them itself.

        Raises:
            ValueError: it has not, or more.
        """
        self.weight_rules.load_state(checkpoint)
        if "state_dict" not in checkpoint:
            return
        odd = sorted(checkpoint["state_dict"].keys() ^ {f"model.{name}" for name in self.trained()})
        if odd:
            raise ValueError(f"{len(odd)} tensors are only in the checkpoint or only in the model, first {odd[0]}")

    def configure_model(self) -> None:
        """Shard the model where the strategy has laid out the devices for it."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def evaluation(self, split: str) -> Evaluation:
        """Return what the evaluation of ``validation`` or ``test`` has come to."""
        evaluation = self.evaluations[split]
        assert isinstance(evaluation, Evaluation)
        return evaluation

    def metric(self, split: str) -> ScorerMetric:
        """Return the scores of ``validation`` or ``test``."""
        return self.evaluation(split).metric

    def logged(self) -> list[str]:
        """Return the names of what a training logs and a callback may watch."""
        terms = [f"train/{name}" for name in self.objective.terms]
        return [*(f"validation/{name}" for name in self.task.directions), "train/loss", "train/grad_norm", *terms]

    @property
    def step_loss(self) -> Tensor:
        """This rank's part of the loss of the last step, over all its forward passes; before clipping and scaling."""
        return torch.tensor(0.0) if self._step is None else self._step.loss

    def training_step(self, parts: list[Batch], batch_idx: int) -> Tensor:
        """Return what stands for the loss of a step, NaN: `backward` computes the step, part by part.

        DeepSpeed's engine sees the forward pass, and runs backwards itself: it gets the loss.
        """
        strategy = self.trainer.strategy
        self._step = Step(
            parts,
            [parameter for group in self.trainer.optimizers[0].param_groups for parameter in group["params"]],
            self.training_pieces,
            self.trainer.precision_plugin.forward_context,
            self.trainer.world_size,
            averages=isinstance(strategy, DDPStrategy),
        )
        if isinstance(strategy, DeepSpeedStrategy):
            return self._step.whole(self.losses_of)
        self._stand_in = torch.full((), torch.nan, device=self.device, requires_grad=True)
        return self._stand_in

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradient of the step; by what fp16 scales the loss is read off the gradient of its stand-in."""
        assert self._step is not None
        assert self._stand_in is not None
        super().backward(loss)
        self.take_gradient(self._step, self._stand_in.grad)

    def take_gradient(self, step: Step, scale: Tensor | None = None) -> None:
        """Put the gradient of `step`, times `scale`, into the parameters, as the rule for steps has it."""
        ask = partial(step.gradient, self.losses_of, scale)
        if self.step_rule is None:
            ask()
        else:
            step.loss = self.step_rule.gradient(ask, step.parameters)

    def losses_of(self, batch: Batch) -> Losses:
        """Compute `batch` and return what a training minimises on it."""
        return self.objective(self, batch)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Make a step, unless it turns out that it is to be left out: the model and the optimiser then stay as is."""
        step = self.trainer.global_step + 1
        with suppress(StepSkippedError):
            super().optimizer_step(*args, **kwargs)
            self.method.after_step(self.model, step, self.context)
            self.weight_rules.after_step(self.trainer.optimizers[0])

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm of the whole gradient, as Lightning does, and log that norm; DeepSpeed does both itself.

        Before that, check that it is finite, and so are the weights that the last step has left: one number is read
        from the device. Of DeepSpeed, only the loss can be looked at.
        """
        self._log_step()
        if isinstance(self.trainer.strategy, DeepSpeedStrategy):
            if not torch.isfinite(self.trainer.strategy.reduce(self.step_loss)):
                self._went_wrong()
            return
        parameters = list(self.trainer.precision_plugin.main_params(optimizer))
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._is_logged():
            self.log("train/grad_norm", _scalar(norm), batch_size=1)
        with torch.no_grad():
            weights = nn.utils.get_total_norm(parameters)
        if torch.isfinite(_scalar(norm) + 0 * _scalar(weights)):
            self.finite.passed()
        else:
            self._went_wrong()
        if gradient_clip_val is not None:
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def _went_wrong(self) -> None:
        """Find out what is not finite, and end the run or leave the step out."""
        assert self._step is not None
        with self.trainer.precision_plugin.forward_context():
            finding = find(
                self.model,
                self._step.on_device(),
                self.step_loss,
                lambda piece: self.losses_of(piece).total,
                self.objective.differentiates,
            )
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        self.finite.failed(self.trainer.global_step + 1, finding, scaler and scaler.get_scale())

    def validation_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions of one batch, which also count for the scores."""
        return self._evaluate(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the predictions of one batch, which also count for the scores."""
        return self._evaluate(batch, "test")

    def on_fit_start(self) -> None:
        """Turn dropout on: a model comes from `from_pretrained` in evaluation mode."""
        self.train()
        wrapper = self.trainer.strategy.model
        if isinstance(wrapper, DistributedDataParallel):
            wrapper.require_backward_grad_sync = False  # as within its `no_sync`: a step averages once, by itself
        if self.global_rank:  # the ranks have other examples: let dropout not hit the same places in all
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_train_start(self) -> None:
        """Have the rules that act on the weights look at them, where the training begins."""
        if self.trainer.global_step == 0:
            self.weight_rules.begin(self.trainer.optimizers[0])

    def on_validation_epoch_start(self) -> None:
        """Begin the scores anew."""
        self.evaluation("validation").reset()

    def on_test_epoch_start(self) -> None:
        """Begin the scores anew."""
        self.evaluation("test").reset()

    def on_validation_epoch_end(self) -> None:
        """Log the scores over the whole split."""
        self._log_scores("validation")

    def on_test_epoch_end(self) -> None:
        """Log the scores over the whole split."""
        self._log_scores("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its schedule over all steps of the run."""
        optimizer = self.optimizer_spec.attach(self.model, self.context.head, self.method.learning_rate_factor)
        steps = int(self.trainer.estimated_stepping_batches)
        self.context = replace(self.context, steps=steps)
        scheduler = self.schedule.attach(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _log_step(self) -> None:
        """Where that is due, log the loss of the step and the learning rates."""
        if self._is_logged():
            self.log("train/loss", self.step_loss, reduce_fx="sum", sync_dist=True, batch_size=1)
            for name, term in self._step.terms.items() if self._step else ():
                self.log(f"train/{name}", term, reduce_fx="sum", sync_dist=True, batch_size=1)
            self.log_dict(self._learning_rates(), batch_size=1)

    def _is_logged(self) -> bool:
        """Return whether the loggers get a row of this step: logging costs more than a small step."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it elsewhere
        return (self.trainer.global_step + 1) % every == 0

    def _learning_rates(self) -> dict[str, float]:
        peaks = {self.optimizer_spec.head_lr: "train/head_lr", self.optimizer_spec.lr: "train/lr"}
        groups = self.trainer.optimizers[0].param_groups
        # a method may have groups with further rates, which are multiples of these
        return {peaks[group["initial_lr"]]: group["lr"] for group in groups if group["initial_lr"] in peaks}

    def _evaluate(self, batch: Batch, split: str) -> list[dict[str, Any]]:
        return self.evaluation(split).take(batch, self.evaluation_pieces, self._predict)

    def _predict(self, batch: Batch) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the loss of `batch` and the predictions; of a filler, nothing that counts."""
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
    """Return whether an evaluation is one after training, or the one after the last step of the budget."""
    return trainer.state.fn != "fit" or trainer.global_step == trainer.estimated_stepping_batches


def _scalar(norm: Tensor) -> Tensor:
    """Return a norm over all ranks."""
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
