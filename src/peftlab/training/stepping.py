"""The LightningModule's part that takes optimiser steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from peftlab.devices.sharding import unsharded
from peftlab.methods.method import Method, MethodContext
from peftlab.regularizers.repeatable import RandomState, random_state, same_random_numbers
from peftlab.seams.lightning import acts_within_steps, shorten_steps
from peftlab.seams.pytorch import norm_of_all
from peftlab.tasks.batch import Batch
from peftlab.training.captured import Recording
from peftlab.training.effects import Effects
from peftlab.training.non_finite import StepSkippedError, find
from peftlab.training.objective import Forward, Losses, Objective
from peftlab.training.rules import Rules
from peftlab.training.scoring import Scoring
from peftlab.training.step import Step
from peftlab.training.step_log import StepLog
from peftlab.training.update import cannot_skip, memory_advised, prepare, update


class Seat(Protocol):
    """The place of a run among others that compute the gradients of their steps together."""

    def gradient(self, step: Step, alone: Callable[[], None]) -> None:
        """Set the parameters' gradients to that of `step`, which `alone` would do."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A step whose check has not been read from the device."""

    step: Step
    bad: Tensor
    """Whether the device has left it out, a scalar in fp32: 1 or 0."""
    random: RandomState
    """The state of the random generators before it."""


class Stepping(Scoring):
    """Takes optimiser steps.

    It takes a step by itself, `take_step`, or gives Lightning what it asks for: `training_step`, `backward`,
    `configure_gradient_clipping` and `optimizer_step`. Both ways make the same step, bit for bit. Lightning's is more
    work for the host; it serves several ranks, fp16's loss scaling, and callbacks that act within a step.

    On a GPU, whether a step is finite is not read in every step: the device itself leaves such a step out, and
    `settle` reads of several at once, before anything is made of the weights: a checkpoint, a validation, a trail.
    """

    method: Method
    context: MethodContext
    objective: Objective
    rules: Rules
    step_log: StepLog

    def _set_up_steps(self) -> None:
        self.effects = Effects()
        self.seat: Seat | None = None
        self.private: Callable[[Step], None] | None = None  # sets gradients in place of the step, see `PrivateGradient`
        self._step: Step | None = None
        self._placeholder: Tensor | None = None
        self._loss_scale: Tensor | None = None
        self.recording = Recording()
        self._unread: list[Unread] = []
        self._is_short = self._may_wait = False

    @property
    def step_loss(self) -> Tensor:
        """This rank's share of the last step's loss, over all its forward passes; before clipping and scaling."""
        return torch.tensor(0.0) if self._step is None else self._step.loss

    def on_fit_start(self) -> None:
        """Turn dropout on, since `from_pretrained` returns a model in evaluation mode; choose the way to take steps."""
        self.train()
        wrapper = self.trainer.strategy.model
        if isinstance(wrapper, DistributedDataParallel):
            wrapper.require_backward_grad_sync = False  # as in its `no_sync`: `Step` averages, once
        if self.global_rank:  # so that dropout differs between ranks
            torch.manual_seed(torch.initial_seed() + self.global_rank)
        alone = self.trainer.world_size == 1 and scaler_of(self.trainer) is None
        self._is_short = alone and not acts_within_steps(self.trainer)
        if self._is_short:
            shorten_steps(self.trainer, self.take_step)

    def on_train_start(self) -> None:
        """Decide whether steps are recorded, and whether others' checks may wait: if only the update needs them."""
        optimizer, clip_norm = self.trainer.optimizers[0], self.trainer.gradient_clip_val
        obstacle = None if self._is_short else "a callback acts within steps"
        obstacle = obstacle if self.seat is None else "runs in a pack compute their gradients together"
        autocast = self.trainer.precision_plugin.forward_context
        self.recording.begin(obstacle, optimizer, clip_norm, self.guards.finite, self.rules, self.losses_of, autocast)
        acts = type(self.method).after_step is not Method.after_step or self.rules.act_on_steps or self.objective.learns
        waits = self._is_short and self.seat is None and self.guards.finite.unread > 1 and not acts
        self._may_wait = waits and cannot_skip(optimizer) is None
        if self._may_wait:
            prepare(optimizer)

    def on_train_end(self) -> None:
        """Read the checks of the last steps."""
        self.settle()
        self.recording.end()

    def take_step(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Take an optimiser step on `parts`, and return what callbacks get of it: its loss."""
        step = self._begin(parts)
        optimizer = self.trainer.optimizers[0]
        if not self.effects.pending and self._is_taken_unread(step, optimizer):
            return {"loss": step.loss}
        self.settle()

        @torch.enable_grad()  # some optimisers call it without
        def compute() -> Tensor:
            self.take_gradient(step)
            self._check_and_clip(optimizer, self.trainer.gradient_clip_val)
            return step.loss

        with suppress(StepSkippedError), self.recording.rates(), memory_advised():
            optimizer.step(compute)  # type: ignore[arg-type]  # a tensor is as good as a number
            self._after_step()
        return {"loss": step.loss}

    def settle(self) -> None:
        """Read the checks of all steps so far, and end the run, or count them as left out, where steps are not finite.

        Raises:
            NonFiniteError: the run ends; weights and optimiser are as before the step that it names.
        """
        if not self._unread:
            return
        unread = list(self._unread)
        self._unread.clear()
        for each, bad in zip(unread, torch.stack([each.bad for each in unread]).tolist(), strict=True):
            if bad:
                # a validation that settles has turned gradients off by then
                with suppress(StepSkippedError), torch.inference_mode(mode=False), torch.enable_grad():
                    self._handle_non_finite(each)
            else:
                self.guards.finite.passed()

    def training_step(self, parts: list[Batch], batch_idx: int) -> Tensor:
        """Return a placeholder for the loss, NaN: `backward` computes the step, part by part.

        DeepSpeed's engine gets the loss itself, because it runs the backward pass.
        """
        step = self._begin(parts)
        if isinstance(self.trainer.strategy, DeepSpeedStrategy):
            return step.whole(self.losses_of)
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
        if self._step is not step:
            self._step = step
        if self._loss_scale is not scale:
            self._loss_scale = scale
        alone = partial(step.take, self.rules.of_step, self.losses_of, scale)
        if self.private is not None:
            alone = partial(self.private, step)
        alone() if self.seat is None else self.seat.gradient(step, alone)

    def losses_of(self, batch: Batch, forward: Forward | None = None) -> Losses:
        """Return the losses that training minimises, of the outputs of `forward` for `batch`, or else of the model."""
        assert self._step is not None
        return self.objective(forward or self, batch, self._step.number, self._loss_scale)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step; one that is left out changes neither the model nor the optimiser."""
        try:
            with self.recording.rates(), memory_advised():
                super().optimizer_step(*args, **kwargs)
        except StepSkippedError:
            if (scaler := scaler_of(self.trainer)) is not None:
                scaler.update()  # as after a step that it skips itself: the loss scale shrinks
            return
        self._after_step()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Check that the step is finite, log it, and clip by the norm of the whole gradient, as Lightning does.

        DeepSpeed clips and logs the norm itself; there, the check only covers the loss.
        """
        if isinstance(self.trainer.strategy, DeepSpeedStrategy):
            assert self._step is not None
            self.step_log.take(self._step, None)
            if not torch.isfinite(self.trainer.strategy.reduce(self.step_loss)):
                self._handle_non_finite()
            return
        self._check_and_clip(optimizer, gradient_clip_val)

    def on_train_batch_end(self, outputs: Any, batch: list[Batch], batch_idx: int) -> None:
        """Write the row of the step, if it has one: callbacks have been called by now."""
        self.step_log.write()

    def _begin(self, parts: list[Batch]) -> Step:
        trainer = self.trainer
        self._step = Step(
            parts,
            [parameter for group in trainer.optimizers[0].param_groups for parameter in group["params"]],
            self.guards.training,
            trainer.precision_plugin.forward_context,
            trainer.world_size,
            averages=isinstance(trainer.strategy, DDPStrategy),
            number=trainer.global_step + 1,
        )
        return self._step

    def _check_and_clip(self, optimizer: Optimizer, most: int | float | None) -> None:
        """Check the gradient, and the weights that the last step left, by one number from the device; then clip."""
        assert self._step is not None
        assert self._step.number is not None
        parameters = self._step.parameters
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        total = unsharded(norm)
        self.step_log.take(self._step, total)
        if torch.isfinite(total + 0 * unsharded(norm_of_all(parameters))):
            self.guards.finite.passed(at_once=True)
        else:
            self._handle_non_finite()
        if most is not None:
            nn.utils.clip_grads_with_norm_(parameters, most, norm)
        self.rules.before_step(optimizer, self._step.number)

    def _is_taken_unread(self, step: Step, optimizer: Optimizer) -> bool:
        """Take a step that the device leaves out by itself if it is not finite, without waiting for it.

        Returns whether that is possible.
        """
        assert step.number is not None
        if not (self._may_wait or self.recording.is_on):
            return False
        random = random_state(step.device)
        if not self.objective.has_begun(step.number) or (taken := self.recording.take(step)) is None:
            if not self._may_wait:
                return False
            self.take_gradient(step)
            with self.recording.rates(), memory_advised():
                taken = update(optimizer, step.parameters, self.trainer.gradient_clip_val, self.guards.finite.hold)
        norm, bad = taken
        self._unread.append(Unread(step, bad, random))
        if self.step_log.is_due(step.number) or len(self._unread) >= self.guards.finite.unread:
            self.settle()
        self.step_log.take(step, norm)
        return True

    def _handle_non_finite(self, late: Unread | None = None) -> None:
        """Locate the values that are not finite, then end the run or leave the step out.

        Args:
            late: a step before the last one, whose gradient is computed again; None: the last one.
        """
        latest = self._step
        step = latest if late is None else late.step
        assert step is not None
        assert step.number is not None
        loss = step.loss
        if late is not None:
            with same_random_numbers(late.random):
                self.take_gradient(step)
        with self.trainer.precision_plugin.forward_context():
            finding = find(self.model, step.on_device(), loss, self.losses_of, self.objective.differentiates)
        self._step = latest
        scale = None if (scaler := scaler_of(self.trainer)) is None else scaler.get_scale()
        self.guards.finite.failed(step.number, finding, scale)

    def _after_step(self) -> None:
        """Let the method, the rules and the terms that learn act on a step that was taken."""
        step = self._step
        assert step is not None
        assert step.number is not None
        assert self.context.steps is not None
        self.method.after_step(self.model, step.number, self.context)
        self.rules.after_step(self.trainer.optimizers[0], step.number, self.context.steps)
        self.objective.after_step(step.figures, self.trainer.strategy)
        self.effects.after_step(step, step.number, self.trainer.strategy)


def scaler_of(trainer: L.Trainer) -> torch.amp.GradScaler | None:
    """Return what scales the loss in fp16; None in another precision."""
    return getattr(trainer.precision_plugin, "scaler", None)
