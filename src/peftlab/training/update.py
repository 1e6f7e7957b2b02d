"""The second half of a step, without waiting for the device: the norm of the gradient, its check, and the update.

A step whose gradient is not finite is left out by the device itself, so that whoever reads the check later finds the
weights as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from peftlab.errors import OutOfMemoryError


def cannot_skip(optimizer: Optimizer) -> str | None:
    """Return why `optimizer` cannot leave out a step on the device; None: it can.

    torch's fused optimisers can: they take a flag on the device, as fp16's loss scaling needs it, and leave weights,
    moments and the number of steps unchanged.
    """
    name = type(optimizer).__name__
    if type(optimizer) not in (Adam, AdamW, SGD):
        return f"{name} cannot leave out a step by a flag on the device; optimizer=adamw and optimizer=sgd can"
    if not all(group["fused"] for group in optimizer.param_groups):
        return f"{name} cannot leave out a step by a flag on the device without optimizer.algorithm.fused=true"
    if any(group.get("momentum") and group["dampening"] for group in optimizer.param_groups):
        return f"{name} does not apply dampening in its first step, which may be one that is left out"
    return None


def prepare(optimizer: Optimizer) -> None:
    """Create the state that `optimizer` would leave undefined if its first step were left out.

    That is SGD's momentum. Beginning at 0, it is the gradient after the first step, as it is in SGD without dampening.
    """
    for group in optimizer.param_groups:
        if group.get("momentum"):
            for parameter in group["params"]:
                if optimizer.state[parameter].get("momentum_buffer") is None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def check(parameters: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """Return the norm of the whole gradient, and whether a step with it has to be left out: 1 if so, else 0.

    It has to be where the gradient, or a weight, is not finite. Both are scalars in fp32 on the device.
    """
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    with torch.no_grad():
        weights = nn.utils.get_total_norm(parameters)
        bad = torch.isfinite(norm + 0 * weights).logical_not().float()
    return norm, bad


@contextmanager
def skipping(optimizer: Optimizer, bad: Tensor) -> Iterator[None]:
    """Have `optimizer` leave out steps in this context where `bad`, a scalar in fp32 on the device, is 1."""
    optimizer.found_inf = bad  # type: ignore[attr-defined]  # torch's own name, which its loss scaling sets
    try:
        yield
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


@contextmanager
def memory_advised() -> Iterator[None]:
    """Around an optimiser's step: say what to do where its own state does not fit in memory.

    Raises:
        OutOfMemoryError: it does not.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not is_oom_error(error):
            raise
        reason = str(error).strip().split("\n")[0]
        raise OutOfMemoryError(
            "out of memory in the step of the optimiser, which keeps a state of each trained weight: choose one that "
            "keeps less, such as optimizer=adafactor or adamw_8bit, train fewer weights, such as with peft=lora, or "
            f"divide them among devices with trainer=fsdp ({reason})"
        ) from error


def update(
    optimizer: Optimizer, parameters: Sequence[nn.Parameter], clip_norm: float | None, hold: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Take a step of `optimizer` with the gradients of `parameters`; return their norm, and whether it is left out.

    Args:
        optimizer: one that can leave out a step.
        parameters: those that it trains.
        clip_norm: the largest norm of the whole gradient; None: no clipping.
        hold: turns the result of the check into whether the step is left out, both scalars in fp32.
    """
    norm, bad = check(parameters)
    left_out = hold(bad)
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    with skipping(optimizer, left_out):
        optimizer.step()
    return norm, left_out


class Rates:
    """The learning rates of an optimiser's groups as a tensor on the device, which a captured step reads.

    Args:
        optimizer: its groups keep their rates as numbers, which schedules, loggers and checkpoints use.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.device = optimizer.param_groups[0]["params"][0].device
        # fused kernels read fp32; on a CPU they read a number, so that fp64 gives the bits of an ordinary step
        dtype = torch.float32 if self.device.type == "cuda" else torch.float64
        self.values = torch.zeros(len(optimizer.param_groups), dtype=dtype, device=self.device)
        """Shape (groups,)."""

    def renew(self) -> None:
        """Send the present rates to the device, without waiting for it."""
        on_gpu = self.device.type == "cuda"
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        # a new pinned tensor each time: torch reuses its memory only once the copy is done
        self.values.copy_(torch.tensor(rates, dtype=self.values.dtype, pin_memory=on_gpu), non_blocking=on_gpu)

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """Have the groups' rates be the numbers that recorded steps read from the device in this context."""
        rounded = [torch.tensor(group["lr"], dtype=self.values.dtype).item() for group in self.optimizer.param_groups]
        with self._replaced(rounded):
            yield

    @contextmanager
    def used(self, factor: Tensor | None = None) -> Iterator[None]:
        """Have the groups refer to the rates on the device in this context.

        Args:
            factor: a scalar; the rates are then each times this. None: 1.
        """
        values = self.values if factor is None else self.values * factor
        with self._replaced(values):
            yield

    @contextmanager
    def _replaced(self, rates: Iterable[Any]) -> Iterator[None]:
        groups = self.optimizer.param_groups
        before = [group["lr"] for group in groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        try:
            yield
        finally:
            for group, rate in zip(groups, before, strict=True):
                group["lr"] = rate
