"""Which way computes the gradients of a model's examples: the first that agrees with one example at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch

from peftlab.privacy.per_example import WAYS, Computed, Learner, OneByOne, Way
from peftlab.regularizers.repeatable import random_state, same_random_numbers
from peftlab.tasks.batch import Batch

TOLERANCE = 1e-5
"""The largest disagreement, relative to the norm of a tensor's gradient, where weights are in fp32."""
_IN_16_BITS = 3e-2
"""The same where frozen weights are stored in 16 bits, so that every product is rounded to them."""
_ROUNDING = 2e-6
"""The share of the norm of a whole gradient that may be rounding."""
_EXAMPLES = 8
"""The number of examples that ways are compared on."""
_SHIFT = 0.01
"""How far weights are shifted for the comparison: tensors that begin as zero make the gradients of others zero."""


@dataclass(frozen=True)
class Choice:
    """A way that has been found right."""

    way: Way
    disagreement: float
    """The largest relative disagreement with one example at a time; 0 for that way itself."""
    others: dict[str, str]
    """Why each way before it was not taken."""


def choose(learner: Learner, batch: Batch, ways: Sequence[type[Way]] = WAYS) -> Choice:
    """Return the first of `ways` whose gradients on `batch` agree with those of one example at a time.

    They are compared in evaluation mode, without dropout, at slightly shifted weights; each way must also run in
    training mode. Weights and random generators are as before afterwards.

    Args:
        learner: the model in training mode.
        batch: examples on the device.
        ways: those to try; without `OneByOne` the last.
    """
    some = learner.pick(batch, list(range(min(_EXAMPLES, len(batch.examples))))).to(batch.weights.device)
    fp32 = all(p.dtype == torch.float32 for p in learner.model.parameters() if p.is_floating_point())
    compared = replace(learner, autocast=nullcontext) if fp32 else learner
    tolerance, exact, others = TOLERANCE if fp32 else _IN_16_BITS, None, dict[str, str]()
    for kind in ways:
        if kind is OneByOne:
            break
        try:
            way = kind(learner)
            with _shifted(learner):
                exact = exact or OneByOne(compared)(some)
                worst = disagreement(kind(compared)(some), exact)
            with same_random_numbers(random_state(batch.weights.device)):
                way(some)
        except Exception as error:  # noqa: BLE001  # whatever a model's code may raise under transforms
            others[kind.name] = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
            continue
        if worst <= tolerance:
            return Choice(way, worst, others)
        others[kind.name] = f"its gradients differ by {worst:.1e}"
    return Choice(OneByOne(learner), 0.0, others)


def disagreement(one: Computed, other: Computed) -> float:
    """Return the largest difference between gradients, relative to their norm.

    Each tensor of each example is compared by itself, against its norm or a hundredth of that of the whole gradient.
    What is less than `_ROUNDING` of the whole counts as none: some gradients are zero but for rounding.
    """
    worst = torch.zeros(())
    whole = torch.stack([own.float().flatten(1).square().sum(1) for own in other.gradients if own is not None]).sum(0)
    for mine, theirs in zip(one.gradients, other.gradients, strict=True):
        present = mine if mine is not None else theirs
        if present is None:
            continue
        zero = torch.zeros_like(present)
        right = zero if theirs is None else theirs
        apart = (zero if mine is None else mine) - right
        difference, norm = (own.float().flatten(1).norm(dim=1) for own in (apart, right))
        scale = torch.maximum(norm, 0.01 * whole.sqrt()).clamp(min=1e-12)
        relative = torch.where(difference <= _ROUNDING * whole.sqrt(), 0.0, difference / scale)
        worst = torch.maximum(worst, relative.nan_to_num(torch.inf).max().cpu())
    return float(worst)


@contextmanager
def _shifted(learner: Learner) -> Iterator[None]:
    """Put the model into evaluation mode, with slightly other weights, in this context."""
    modes = {module: module.training for module in learner.model.modules()}
    kept = {name: parameter.detach().clone() for name, parameter in learner.trained.items()}
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in learner.trained.values():
            parameter.add_((_SHIFT * torch.randn(parameter.shape, generator=noise)).to(parameter))
    learner.model.eval()
    try:
        with same_random_numbers(random_state(next(iter(kept.values())).device)):
            yield
    finally:
        with torch.no_grad():
            for name, parameter in learner.trained.items():
                parameter.copy_(kept[name])
        for module, mode in modes.items():
            module.training = mode
