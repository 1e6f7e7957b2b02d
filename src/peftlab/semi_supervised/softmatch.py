"""SoftMatch: every guess is learnt, the less certain it is beside the others, the less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import spec
from peftlab.semi_supervised.averages import Average, aligned
from peftlab.semi_supervised.consistency import Consistency, Judged
from peftlab.semi_supervised.predicted import sharpened
from peftlab.semi_supervised.tally import Seen


@spec
class SoftMatch(Consistency):
    """Weights the most probable class by a truncated Gaussian of its probability (Chen et al. 2023, equation 6).

    The weight is ``exp(-(mu - p)^2 / (2 * variance / n_sigma^2))`` below the mean ``mu`` of these probabilities p, and
    1 above it. Mean and variance are averages over the steps before; in the first step all weights are 1. With
    `uniform`, p is that of guesses that are aligned to the uniform distribution; the class is that of the guess itself.
    """

    n_sigma: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    """How narrow the Gaussian is: 1 in the paper's equation, 2 in its authors' code."""
    uniform: bool = True
    """Whether guesses are aligned to the uniform distribution before they are weighted (the paper's section 3.3)."""
    decay: float = Field(default=0.999, ge=0, lt=1)
    """The decay of the averages in each step."""

    @override
    def begin(self, *arguments: Any) -> None:
        super().begin(*arguments)
        assert self.tally is not None
        # of confidences, the mean and the variance
        sizes = {"confidences": 2, "guesses": len(self.tally.classes)}
        self.averages = {name: Average(self.decay, size) for name, size in sizes.items()}

    @override
    def judge(self, guesses: Tensor) -> Judged:
        moved = guesses
        if self.uniform and self.averages["guesses"].begun:
            classes = guesses.shape[-1]
            moved = aligned(guesses, torch.full([classes], 1 / classes), self.averages["guesses"].mean)
        confidences = moved.max(-1).values
        weights = torch.ones_like(confidences)
        if self.averages["confidences"].begun:
            mean, variance = self.averages["confidences"].mean.tolist()
            below = (mean - confidences).clamp(min=0)
            weights = torch.exp(-below.square() * self.n_sigma**2 / (2 * max(variance, 1e-12)))
        return Judged(sharpened(guesses, 0), weights, confidences)

    @override
    def learn(self, seen: Seen, told: Mapping[str, Tensor]) -> None:
        total, squares = seen.confidences
        mean = total / seen.number
        variance = max(0.0, squares - total * mean) / max(1.0, seen.number - 1)
        self.averages["confidences"].add(torch.tensor([mean, variance]))
        self.averages["guesses"].add(seen.guesses / seen.number)
