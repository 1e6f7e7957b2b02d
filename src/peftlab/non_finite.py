"""Where a number first went wrong: NaN and infinities in the weights, the loss or the gradient of a step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves

from peftlab.tasks.batch import Batch

SKIPS_IN_A_ROW = 10
"""Batches that `trainer.on_nan=skip_batch` leaves out one after another. A bad example comes now and then; so many in a
row mean that it is not the examples."""

_SHOWN = 5
"""Names and ids in a message; the record has all of them."""


class StepSkippedError(Exception):
    """Leaves a step of the optimiser out; it never gets as far as the user."""


@dataclass(frozen=True)
class Finding:
    """What is not finite in a step."""

    kind: Literal["weights", "loss", "gradient"]
    """The earliest of them: bad weights make a bad loss, and a bad loss a bad gradient."""
    module: str | None
    """The first in forward order whose output is not finite; of a gradient, which comes from behind, the last in
    forward order that has one. None: a second forward pass showed nothing."""
    parameters: list[str]
    """Names of the weights that are not finite, or that have such gradients."""
    examples: list[str]
    """The ids of the forward pass concerned; of the whole step, where it cannot be said."""

    def __str__(self) -> str:
        where = self.module or "no module, in a second forward pass on the same batch"
        parts = [f"the {self.kind} is not finite" if self.kind != "weights" else "weights are not finite"]
        parts.append(f"first seen in {where}")
        if self.parameters:
            parts.append(f"parameters {_some(self.parameters)}")
        return f"{'; '.join(parts)}; examples {_some(self.examples)}"


def is_finite(tensor: Tensor) -> bool:
    """Return whether `tensor` has neither NaN nor infinities, and nothing that is too large to be squared."""
    norm = torch.linalg.vector_norm(tensor.detach(), dtype=torch.promote_types(tensor.dtype, torch.float32))
    return bool(torch.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm))


def find(model: nn.Module, parts: Sequence[Batch], loss: Tensor, loss_of: Callable[[Batch], Tensor]) -> Finding:
    """Return what is not finite in a step that has been found out to hold such a thing.

    All ranks have to call it, and all get the same answer.

    Args:
        model: with the gradients of the step.
        parts: the batches of the step's forward passes, on this rank.
        loss: of the step, as it was computed.
        loss_of: makes a forward pass once more.
    """
    findings = [_find(model, parts, loss, loss_of)]
    if dist.is_initialized():
        everyones: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyones, findings[0])
        findings = everyones
    for kind in ("weights", "loss", "gradient"):
        if concerned := [finding for finding in findings if finding.kind == kind]:
            first = concerned[0]
            return Finding(first.kind, first.module, first.parameters, [id for f in concerned for id in f.examples])
    raise AssertionError("unreachable: there is no other kind")


def _find(model: nn.Module, parts: Sequence[Batch], loss: Tensor, loss_of: Callable[[Batch], Tensor]) -> Finding:
    weights = _not_finite(model.named_parameters())
    gradients = _not_finite((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
    module, order, examples = None, list[str](), _ids(parts)
    for part in parts:  # all of them: where weights are shared out, the ranks need each other for a forward pass
        bad, order = _forward(model, lambda part=part: loss_of(part))  # type: ignore[misc]
        if bad is not None and module is None:
            module, examples = bad, _ids([part])
    if weights:
        return Finding("weights", module or _owner(weights[0]), weights, examples)
    if module is not None or not bool(torch.isfinite(loss)):
        return Finding("loss", module, [], examples)
    place = {name: n for n, name in enumerate(order)}
    last = max(gradients, key=lambda name: place.get(_owner(name), -1), default=None)
    return Finding("gradient", last and _owner(last), gradients, examples)


def _forward(model: nn.Module, forward: Callable[[], Tensor]) -> tuple[str | None, list[str]]:
    """Return the first module whose output is not finite, and the order in which the modules were done.

    A loss that is not finite although all modules' outputs are counts as the output of the module ``loss``.
    """
    first: list[str] = []
    order: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            order.append(name)
            if not first and not all(is_finite(leaf) for leaf in tree_leaves(output) if _is_float(leaf)):
                first.append(name)

        return hook

    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices))  # what comes after must not depend on having looked
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # compiled code calls no hooks
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(watch(name)).remove)
        loss = forward()
    if not first and not is_finite(loss):
        first.append("loss")
    return (first[0] if first else None), order


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
