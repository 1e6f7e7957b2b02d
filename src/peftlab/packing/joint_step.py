"""The gradients of the steps of several runs from one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from peftlab.packing.joint_model import JointModel
from peftlab.packing.run_context import RandomStates
from peftlab.tasks.batch import Batch
from peftlab.training.objective import Losses
from peftlab.training.step import Step
from peftlab.training.tuner import Tuner


def fits(step: Step) -> bool:
    """Return whether a step consists of one whole batch."""
    return len(step.parts) == 1 and step.pieces.fits(step.parts[0])


def compute(model: JointModel, tuners: Sequence[Tuner], steps: Sequence[Step], randoms: Sequence[RandomStates]) -> None:
    """Set the gradients of all `tuners` to those of their `steps`.

    Args:
        model: runs the models of the tuners.
        tuners: the runs.
        steps: by run, a step of one whole batch.
        randoms: by run, the random states that it draws from.

    Raises:
        NotJoinableError: the batches do not fit together; gradients and random states are then undefined.
    """
    batches = [step.parts[0].to(step.device) for step in steps]
    with steps[0].autocast():
        outputs = model([batch.inputs for batch in batches])
    losses: list[Tensor] = []
    for tuner, step, own, random in zip(tuners, steps, outputs, randoms, strict=True):
        step.start_over()
        random.put_torch()
        losses.append(step.whole(partial(_losses, tuner, own)))
        random.keep_torch()
    torch.autograd.backward(losses)


def _losses(tuner: Tuner, outputs: Any, batch: Batch) -> Losses:
    return tuner.losses_of(batch, lambda _: outputs)


def gradients(step: Step) -> list[Tensor | None]:
    """Return copies of the gradients that the parameters of `step` have now."""
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in step.parameters]


def difference(expected: Sequence[Tensor | None], step: Step) -> float:
    """Return the norm of the difference between gradients and those of `step`, over the norm of the latter.

    It is NaN where they are not finite, or where all are 0.
    """
    apart, norm = 0.0, 0.0
    for joint, parameter in zip(expected, step.parameters, strict=True):
        zero = torch.zeros((), device=parameter.device)
        one, other = ((zero if grad is None else grad).double() for grad in (joint, parameter.grad))
        apart += float((one - other).square().sum())
        norm += float(other.square().sum())
    return float("nan") if norm == 0 else (apart / norm) ** 0.5
