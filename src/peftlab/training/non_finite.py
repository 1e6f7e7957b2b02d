"""Locate NaN and infinities: in the weights, the loss or the gradient of a step."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from peftlab.devices.sharding import unsharded
from peftlab.errors import NonFiniteError
from peftlab.seams.pytorch import leaves
from peftlab.tasks.batch import Batch
from peftlab.training.objective import Losses

log = logging.getLogger("peftlab")

SKIPS_IN_A_ROW = 10
"""The number of successive steps at which `trainer.on_nan=skip_batch` gives up. Bad examples come now and then; so
many in a row have another cause."""

UNREAD = {"cpu": 1, "gpu": 16}
"""The most steps whose check may wait to be read, by the kind of device. Reading makes the host wait for a GPU, which
then waits for the host; on a CPU there is nothing to wait for."""

_SHOWN = 5
"""The number of names or ids in a message; the record has all of them."""


class StepSkippedError(Exception):
    """Skips an optimiser step; never reaches the user."""


@dataclass(frozen=True)
class Finding:
    """What is not finite in a step."""

    kind: Literal["weights", "loss", "gradient"]
    """The earliest cause: bad weights make a bad loss, and a bad loss a bad gradient."""
    module: str | None
    """The first module in forward order whose output is not finite, or else the part of the loss; for a gradient, which
    flows backwards, the last module whose gradient is not. None: a second forward pass showed nothing."""
    parameters: list[str]
    """Names of the weights that are not finite, or whose gradients are not."""
    examples: list[str]
    """The ids in the forward pass concerned; of the whole step where that is unknown."""

    def __str__(self) -> str:
        where = self.module or "no module, in a second forward pass on the same batch"
        parts = [f"the {self.kind} is not finite" if self.kind != "weights" else "weights are not finite"]
        parts.append(f"first seen in {where}")
        if self.parameters:
            parts.append(f"parameters {_some(self.parameters)}")
        return f"{'; '.join(parts)}; examples {_some(self.examples)}"


class FiniteGuard:
    """Ends a run at a step that is not finite, or skips that step.

    Args:
        on_nan: whether to end the run or to skip the step.
        note: called with an event and its details when a step is not finite.
        unread: the most steps whose check may wait to be read, at least 1.
    """

    def __init__(self, on_nan: Literal["stop", "skip_batch"], note: Callable[..., None], unread: int = 1) -> None:
        self.on_nan, self.note, self.unread = on_nan, note, unread
        self.skipped = 0
        """Steps in a row that were not finite, as far as they have been looked at."""
        self.in_a_row: Tensor | None = None
        """The number of successive steps that the device has left out, on the device; None: it has not begun."""

    def hold(self, bad: Tensor) -> Tensor:
        """Return whether the device leaves a step out: 1 if so, else 0.

        It also does once the run has to end, so that what comes before somebody looks changes nothing. Nothing is read
        from the device, and the count is changed in place, so that a CUDA graph may hold both.

        Args:
            bad: whether the step itself has to be left out, a scalar in fp32: 1 or 0.
        """
        if self.in_a_row is None:
            self.in_a_row = torch.full_like(bad, self.skipped)
        most = SKIPS_IN_A_ROW if self.on_nan == "skip_batch" else 1
        bad = torch.maximum(bad, (self.in_a_row >= most).to(bad.dtype))
        self.in_a_row.add_(1).mul_(bad)
        return bad

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Have steps in this context not count."""
        before = None if self.in_a_row is None else self.in_a_row.clone()
        try:
            yield
        finally:
            if self.in_a_row is not None:
                self.in_a_row.copy_(torch.full_like(self.in_a_row, self.skipped) if before is None else before)

    def passed(self, at_once: bool = False) -> None:
        """Register a finite step.

        Args:
            at_once: whether it was looked at when it was taken, so that the device has not counted it.
        """
        self.skipped = 0
        if at_once and self.in_a_row is not None:
            self.in_a_row.zero_()

    def failed(self, step: int, finding: Finding, scale: float | None = None) -> NoReturn:
        """Register a step that is not finite.

        fp16 scales its loss until gradients overflow; the steps where they do are skipped, and that is no error.

        Args:
            step: its number, from 1.
            finding: what is not finite.
            scale: the loss scale of fp16; None: no loss scaling.

        Raises:
            NonFiniteError: the run ends.
            StepSkippedError: the step is skipped.
        """
        if scale is not None and finding.kind == "gradient" and scale > 1:
            raise StepSkippedError
        self.skipped += 1
        skipping = self.on_nan == "skip_batch" and finding.kind != "weights" and self.skipped < SKIPS_IN_A_ROW
        self.note("step left out" if skipping else "not finite", step=step, **asdict(finding))
        if not skipping:
            raise NonFiniteError(f"step {step}: {finding}. {self._advice(finding)}")
        log.warning("step %d left out: %s", step, finding)
        raise StepSkippedError

    def _advice(self, finding: Finding) -> str:
        if finding.kind == "loss" and (finding.module or "").startswith("regularizer."):
            return f"The task's own loss is finite: make {finding.module} weaker by its options, or leave it out"
        if self.on_nan == "skip_batch" and finding.kind != "weights":
            return f"{SKIPS_IN_A_ROW} steps in a row had to be left out: it is not the examples. Lower optimizer.lr"
        if finding.kind == "weights":
            return "The step before made them so: lower optimizer.lr, or set trainer.clip_norm"
        return "Lower optimizer.lr, look at the examples, or leave such steps out with trainer.on_nan=skip_batch"


def is_finite(tensor: Tensor) -> bool:
    """Return whether `tensor` has no NaN, no infinity, and nothing too large to be squared."""
    norm = torch.linalg.vector_norm(tensor.detach(), dtype=torch.promote_types(tensor.dtype, torch.float32))
    return bool(torch.isfinite(unsharded(norm)))


def find(
    model: nn.Module,
    parts: Sequence[Batch],
    loss: Tensor,
    losses_of: Callable[[Batch], Losses],
    with_gradients: bool = False,
) -> Finding:
    """Return what is not finite in a step that is known not to be finite.

    All ranks must call it, and all get the same answer.

    Args:
        model: the model, with the gradients of the step.
        parts: the batches of the step's forward passes, on this rank.
        loss: the loss of the step.
        losses_of: repeats a forward pass.
        with_gradients: whether that pass needs gradients, as an adversarial term does.
    """
    findings = [_find(model, parts, loss, losses_of, with_gradients)]
    if dist.is_initialized():
        everyones: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyones, findings[0])
        findings = everyones
    for kind in ("weights", "loss", "gradient"):
        if concerned := [finding for finding in findings if finding.kind == kind]:
            first = concerned[0]
            return Finding(first.kind, first.module, first.parameters, [id for f in concerned for id in f.examples])
    raise AssertionError("unreachable: there is no other kind")


def _find(
    model: nn.Module,
    parts: Sequence[Batch],
    loss: Tensor,
    losses_of: Callable[[Batch], Losses],
    with_gradients: bool,
) -> Finding:
    weights = _not_finite(model.named_parameters())
    gradients = _not_finite((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
    module, order, examples = None, list[str](), _ids(parts)
    for part in parts:  # all of them: with sharded weights, a forward pass needs every rank
        bad, order = _forward(model, lambda part=part: losses_of(part), with_gradients)  # type: ignore[misc]
        if bad is not None and module is None:
            module, examples = bad, _ids([part])
    if weights:
        return Finding("weights", module or _owner(weights[0]), weights, examples)
    if module is not None or not bool(torch.isfinite(loss)):
        return Finding("loss", module, [], examples)
    place = {name: n for n, name in enumerate(order)}
    last = max(gradients, key=lambda name: place.get(_owner(name), -1), default=None)
    return Finding("gradient", last and _owner(last), gradients, examples)


def _forward(model: nn.Module, forward: Callable[[], Losses], with_gradients: bool) -> tuple[str | None, list[str]]:
    """Return the first module whose output is not finite, and the order in which the modules ran.

    Where only a part of the loss is not finite, that part is named, see `_bad_part`.
    """
    first: list[str] = []
    order: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            order.append(name)
            if not first and not all(is_finite(leaf) for leaf in leaves(output) if _is_float(leaf)):
                first.append(name)

        return hook

    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(with_gradients))
        stack.enter_context(torch.random.fork_rng(devices))  # the search must not change later random numbers
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # compiled code calls no hooks
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(watch(name)).remove)
        losses = forward()
    return (first[0] if first else _bad_part(losses)), order


def _bad_part(losses: Losses) -> str | None:
    """Return the part that is not finite: ``loss`` (the task's), ``penalty`` (the method's), or a regulariser's key."""
    parts = {"loss": losses.task, **{f"regularizer.{name}": term for name, term in losses.terms.items()}}
    if losses.penalty is not None:
        parts["penalty"] = losses.penalty
    bad = next((name for name, part in parts.items() if not is_finite(part)), None)
    return bad or (None if is_finite(losses.total) else "loss")


def _not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    return [name for name, tensor in tensors if _is_float(tensor) and not is_finite(tensor)]


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _owner(parameter: str) -> str:
    """Return the name of the module that `parameter` belongs to."""
    return parameter.rpartition(".")[0]


def _ids(parts: Sequence[Batch]) -> list[str]:
    return [example.id for part in parts for example in part.examples]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
