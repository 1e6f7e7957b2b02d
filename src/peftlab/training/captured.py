"""Whole steps as recorded work: forward and backward pass, check, clipping and update, once for each shape of a batch.

A step launched kernel by kernel keeps a GPU waiting for Python. A recorded one is a single launch, and the host waits
for nothing: whether the step was finite is a number on the device, by which the device itself has left it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor
from torch.optim import Optimizer

from peftlab.devices.graphs import Graphs, NotRecordedError, Work
from peftlab.tasks.batch import Batch
from peftlab.training.micro_batches import MicroBatches, T
from peftlab.training.non_finite import FiniteGuard
from peftlab.training.objective import Losses
from peftlab.training.rules import Rules
from peftlab.training.step import Step, forget_failed_pass
from peftlab.training.update import Rates, cannot_skip, prepare, update

MOST = 64
"""The most shapes that are recorded; further ones are computed without a recording, in the same way."""


class Recording:
    """Decides whether the steps of a training are recorded.

    Args:
        tell: is called with the reason where they cannot be; None: they are not to be.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.tell = tell
        self.captured: Captured | None = None
        self._begun = False

    @property
    def is_on(self) -> bool:
        """Whether steps are recorded, as far as is known."""
        return self.captured is not None

    def begin(self, obstacle: str | None, optimizer: Optimizer, *rest: Any) -> None:
        """Begin a training.

        Args:
            obstacle: why its steps cannot be recorded; None: nothing is known to be in the way.
            optimizer: its optimiser.
            rest: further arguments of `Captured`.
        """
        self._begun = False
        if self.tell is None:
            return
        if (reason := obstacle or cannot_skip(optimizer)) is None:
            self.captured = Captured(self.tell, optimizer, *rest)
        else:
            self.tell(reason)

    def take(self, step: Step) -> tuple[Tensor, Tensor] | None:
        """Take a step as `Captured.take` does; None: it has to be taken otherwise, as the first one always is.

        The first step makes what later ones only use; its arithmetic and its memory are counted.
        """
        if self.captured is None or step.number == 1 or not self._begun:
            self._begun = True
            return None
        taken = self.captured.take(step)
        if self.captured.refused:
            self.end()
        return taken

    def rates(self) -> AbstractContextManager[None]:
        """Return a context in which other steps have the learning rates that recorded ones have, rounded to fp32."""
        return nullcontext() if self.captured is None else self.captured.rates.rounded()

    def end(self) -> None:
        """Let go of what is recorded, and of its memory."""
        if self.captured is not None:
            self.captured.forget()
        self.captured = None


class Captured:
    """Takes whole steps of one part on one device.

    Args:
        tell: is called with the reason where steps cannot be recorded; from then on, `take` takes none.
        optimizer: one that can leave out a step on the device, see `peftlab.training.update.cannot_skip`.
        clip_norm: the largest norm of the gradient; None: no clipping.
        guard: decides which steps are left out.
        rules: the run's regularisers that act on weights.
        losses_of: computes the losses of a batch.
        autocast: the context of a forward pass, which sets its precision.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        optimizer: Optimizer,
        clip_norm: float | None,
        guard: FiniteGuard,
        rules: Rules,
        losses_of: Callable[[Batch], Losses],
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.tell, self.optimizer, self.clip_norm = tell, optimizer, clip_norm
        self.guard, self.rules, self.losses_of, self.autocast = guard, rules, losses_of, autocast
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.graphs = Graphs(self.parameters[0].device)
        self.rates = Rates(optimizer)
        self.rehearsed = torch.zeros((), device=self.graphs.device)
        """1 where a step is only rehearsed, and the device leaves it out."""
        self.refused = False
        self._recorded: dict[Any, _OfShape | None] = {}
        self._settings = self._present_settings()
        prepare(optimizer)

    def take(self, step: Step) -> tuple[Tensor, Tensor] | None:
        """Take a step and set its loss, terms and figures; return the norm of its gradient and whether it is left out.

        Nothing is waited for. All results are scalars on the device, and stay as they are in later steps; the second
        is 1 where the step has been left out, see `FiniteGuard.hold`.

        None: the step has to be taken otherwise; nothing has changed.

        Args:
            step: a step in which all terms of the objective take part.
        """
        if self.refused or len(step.parts) != 1 or not step.pieces.fits(step.parts[0]):
            return None
        if self._present_settings() != self._settings:
            self._refuse("something changes the optimizer's settings other than its learning rates while it trains")
            return None
        (batch,) = step.parts
        if (key := form(batch)) not in self._recorded:
            self._recorded[key] = self._record(batch)
        of_shape = self._recorded[key]
        if of_shape is None:
            return None
        of_shape.fill(batch)
        self.rates.renew()
        try:
            of_shape.work()
            return of_shape.results(step)
        except (RuntimeError, MemoryError) as error:  # one of too many shapes, which is not recorded
            if not isinstance(error, MemoryError) and not is_oom_error(error):
                raise
        forget_failed_pass()  # outside the handler, where the error keeps tensors alive
        self.forget_gradients()
        self._recorded[key] = None
        return None

    def forget(self) -> None:
        """Let go of all recordings, and of their memory."""
        self._recorded.clear()

    def _refuse(self, reason: str) -> None:
        self.refused = True
        self.tell(reason)

    def _present_settings(self) -> list[dict[str, Any]]:
        """Return what a recording keeps as it was: the options of the optimiser's groups but for the learning rates."""
        apart = ("params", "lr", "capturable")
        return [
            {key: value for key, value in group.items() if key not in apart} for group in self.optimizer.param_groups
        ]

    def _record(self, batch: Batch) -> _OfShape | None:
        """Return recorded steps for batches of the form of `batch`; None where there can be none."""
        of_shape = _OfShape(self, batch)
        if len(self._recorded) >= MOST:
            return of_shape
        self.rates.renew()
        self.rehearsed.fill_(1)
        failure = None
        try:
            with self.guard.unchanged():
                of_shape.work = self.graphs.record(of_shape.work)
        except NotRecordedError as error:
            failure = error
        finally:
            self.rehearsed.fill_(0)
            self.forget_gradients()
        if failure is None:
            return of_shape
        if not failure.out_of_memory:  # else the batch may be computed in pieces, and smaller ones recorded
            self._refuse(str(failure))
        return None

    def hold(self, bad: Tensor) -> Tensor:
        """Return whether the device leaves a step out: one that is rehearsed, and those that `guard` holds."""
        return torch.maximum(self.guard.hold(bad), self.rehearsed)

    def forget_gradients(self) -> None:
        """Let go of the gradients, whose memory the recordings share."""
        for parameter in self.parameters:
            parameter.grad = None


class _Whole(MicroBatches):
    """Computes every batch whole: where memory runs out, nothing is recorded, and the step is taken otherwise."""

    def __init__(self) -> None:
        super().__init__("training", None, lambda event, **details: None)

    def attempt(self, act: Callable[[Batch], T], batch: Batch, let_go: Callable[[], object] = lambda: None) -> tuple[T]:
        """Return the result of `act` on `batch`."""
        return (act(batch),)


class _OfShape:
    """Steps for batches of one form, on tensors that stay where they are."""

    def __init__(self, captured: Captured, batch: Batch) -> None:
        self.captured = captured
        self.batch = _own(batch, captured.graphs.device)
        self.values: Tensor | None = None
        """The results, in fp32, shape (results,)."""
        self.names: list[tuple[str, ...]] = []
        self.work: Work = self._take

    def fill(self, batch: Batch) -> None:
        """Copy the tensors of `batch` into this one's, without waiting for the device."""
        for name, tensor in _tensors(batch).items():
            _tensors(self.batch)[name].copy_(tensor, non_blocking=True)

    def results(self, step: Step) -> tuple[Tensor, Tensor]:
        """Set the results of `step`, and return the norm of its gradient and whether it was left out."""
        assert self.values is not None
        values = dict(zip(self.names, self.values.clone(), strict=True))
        step.loss, step.counted = values["loss",], values["counted",]
        step.terms = {name[1]: value for name, value in values.items() if name[0] == "term"}
        step.figures = {name: {} for name in step.terms}
        for name, value in values.items():
            if name[0] == "figure":
                step.figures[name[1]][name[2]] = value
        return values["norm",], values["bad",]

    def _take(self) -> None:
        own, batch = self.captured, self.batch
        step = Step([batch], own.parameters, _Whole(), own.autocast)
        step.gradient(own.losses_of)
        with own.rates.used(), _capturable(own.optimizer):
            norm, left_out = update(own.optimizer, own.parameters, own.clip_norm, own.hold)
        with own.rates.used(1 - left_out):  # what a rule does after a step is in proportion to the rates
            own.rules.after_step(own.optimizer, 0, 0)
        own.forget_gradients()
        values: dict[tuple[str, ...], Tensor] = {("loss",): step.loss, ("norm",): norm, ("bad",): left_out}
        values["counted",] = (batch.weights > 0).sum()
        values |= {("term", name): term for name, term in step.terms.items()}
        values |= {("figure", name, key): value for name, told in step.figures.items() for key, value in told.items()}
        self._keep(values)

    def _keep(self, values: dict[tuple[str, ...], Tensor]) -> None:
        together = torch.stack([value.detach().float() for value in values.values()])
        if self.values is None:
            self.names, self.values = list(values), torch.zeros_like(together)
        self.values.copy_(together)


def form(batch: Batch) -> tuple[Any, ...]:
    """Return what two batches have in common where the same recording serves both."""
    tensors = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in _tensors(batch).items()]
    return (*tensors, batch.scale, bool(batch.examples))


def _tensors(batch: Batch) -> dict[str, Tensor]:
    named = {f"inputs.{name}": tensor for name, tensor in batch.inputs.items()}
    named |= {f"targets.{name}": tensor for name, tensor in batch.targets.items()}
    named |= {"weights": batch.weights, "rows": batch.rows}
    return named if batch.factors is None else {**named, "factors": batch.factors}


def _own(batch: Batch, device: torch.device) -> Batch:
    """Return a batch of the form of `batch` with tensors of its own on `device`, and nothing for the host.

    It always has factors: without them, a task may compute its loss by what only the host knows.
    """

    def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}

    weights = batch.weights.to(device, copy=True)
    return replace(
        batch,
        inputs=copied(batch.inputs),
        targets=copied(batch.targets),
        weights=weights,
        rows=batch.rows.to(device, copy=True),
        factors=torch.ones_like(weights) if batch.factors is None else batch.factors.to(device, copy=True),
        examples=[None] * len(batch.examples),
        host={},
        part=None,
    )


@contextmanager
def _capturable(optimizer: Optimizer) -> Iterator[None]:
    """Let `optimizer` take its step while a graph is recorded.

    A fused one always could; torch asks for the option all the same, and warns of it in any other step.
    """
    groups = optimizer.param_groups
    if groups[0]["params"][0].device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
        yield
        return
    before = [group.get("capturable") for group in groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, value in zip(groups, before, strict=True):
            group["capturable"] = value
            if value is None:
                del group["capturable"]
