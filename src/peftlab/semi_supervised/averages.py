"""Averages over the steps of a run that forget the past slowly, and are right from the first step on."""

from __future__ import annotations

import torch
from torch import Tensor


class Average:
    """The exponential moving average of a vector, corrected for its beginning (Kingma & Ba 2015, section 3).

    Args:
        decay: the factor on what came before, in each step.
        size: the length of the vector.
    """

    def __init__(self, decay: float, size: int) -> None:
        self.decay = decay
        self.values = torch.zeros(size + 1, dtype=torch.float64)
        """The average before its correction, and last the sum of the factors in it."""

    @property
    def begun(self) -> bool:
        """Whether anything has been added."""
        return bool(self.values[-1] > 0)

    def add(self, vector: Tensor) -> None:
        """Add the vector of a step."""
        now = torch.cat([vector.double(), torch.ones(1, dtype=torch.float64)])
        self.values = self.decay * self.values + (1 - self.decay) * now

    @property
    def mean(self) -> Tensor:
        """The average, shape (size,)."""
        return self.values[:-1] / self.values[-1]


def aligned(guesses: Tensor, wanted: Tensor, average: Tensor) -> Tensor:
    """Return distributions, moved so that on average they are `wanted` (Berthelot et al. 2020, section 3.1).

    Args:
        guesses: the distributions, shape (distributions, classes).
        wanted: the distribution that they are to have on average, shape (classes,).
        average: the one that they have, shape (classes,).
    """
    moved = guesses * (wanted / average.clamp(min=1e-6)).to(guesses.device, guesses.dtype)
    return moved / moved.sum(-1, keepdim=True)
