"""Clipped sums of gradients, and the noise that is added to them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from peftlab.privacy.guarantee import Guarantee

Gradients = Sequence[Tensor | None]
"""The gradients of some examples, of each trained parameter, shape (examples, ...); None: they have none."""


@dataclass
class Count:
    """How many units have been seen in a training."""

    units: int = 0
    clipped: int = 0
    """Units whose gradient was longer than the largest norm."""
    not_finite: int = 0
    """Units whose gradient was not finite: it is left out of the sum."""


class ClippedSum:
    """The sum of the gradients of units, each scaled down to a norm over all trained parameters.

    Args:
        parameters: the trained parameters.
        norm: the largest norm.
    """

    def __init__(self, parameters: Sequence[Tensor], norm: float) -> None:
        self.norm = norm
        self.sums = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        self.count = Count()
        self._open: tuple[int, list[Tensor]] | None = None
        """The unit whose examples came last, and the sum of their gradients, shape (1, ...): there may be more."""

    def add(self, gradients: Gradients, units: Sequence[int]) -> None:
        """Add the gradients of examples, by the number of the unit of each; those of a unit come one after another."""
        numbers = torch.tensor(units, device=self.sums[0].device)
        names, place = torch.unique_consecutive(numbers, return_inverse=True)
        summed = [
            total.new_zeros(len(names), *total.shape)
            if own is None
            else own.float()
            if len(names) == len(units)
            else total.new_zeros(len(names), *total.shape).index_add_(0, place, own.float())
            for total, own in zip(self.sums, gradients, strict=True)
        ]
        if self._open is not None and self._open[0] == units[0]:
            both = zip(summed, self._open[1], strict=True)
            summed = [torch.cat([own[:1] + before, own[1:]]) for own, before in both]
        else:
            self.close()
        self._take([own[:-1] for own in summed])
        self._open = units[-1], [own[-1:].clone() for own in summed]

    def close(self) -> None:
        """Take the last unit as whole: no more examples of it come."""
        if self._open is not None:
            self._take(self._open[1])
            self._open = None

    def _take(self, gradients: Sequence[Tensor]) -> None:
        """Add whole units to the sum."""
        if not len(gradients[0]):
            return
        norms = torch.stack([own.flatten(1).square().sum(1) for own in gradients]).sum(0).sqrt()
        finite = norms.isfinite()
        factors = torch.where(finite, (self.norm / norms.clamp(min=1e-30)).clamp(max=1.0), 0.0)
        if not finite.all():
            gradients = [own.where(finite.view(-1, *[1] * (own.dim() - 1)), 0.0) for own in gradients]
        for total, own in zip(self.sums, gradients, strict=True):
            total.add_(torch.tensordot(factors, own, 1))
        self.count.units += len(norms)
        self.count.clipped += int((norms > self.norm).sum())
        self.count.not_finite += int((~finite).sum())

    def noisy_mean(self, guarantee: Guarantee, generator: np.random.Generator) -> list[Tensor]:
        """Return the sum with Gaussian noise, over the expected number of units.

        The noise of every coordinate is drawn on the CPU, so that it is the same on any device.
        """
        deviation = guarantee.noise_multiplier * guarantee.max_grad_norm
        return [(total + gaussian(total, deviation, generator)) / guarantee.expected for total in self.sums]


def gaussian(like: Tensor, deviation: float, generator: np.random.Generator) -> Tensor:
    """Return independent normal numbers of this standard deviation, in fp32, with the shape and device of `like`."""
    return torch.from_numpy(generator.standard_normal(like.shape, np.float32) * np.float32(deviation)).to(like.device)


def generator_of(secret: bytes, step: int) -> np.random.Generator:
    """Return the generator of the noise of a step, a function of the secret and the step.

    So a resumed training adds what it would have added, and a step that is computed again gets no noise of its own,
    with which the two could be averaged. It is NumPy's, with a state of 128 bits: torch's for the CPU is seeded with
    32, which can all be tried.
    """
    digest = hashlib.sha256(secret + b" noise %d" % step).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
