"""Adaptive sharpness-aware minimisation: each weight's neighbourhood is as large as the weight."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import spec
from peftlab.regularizers.sharpness import SharpnessRule


@spec
class Asam(SharpnessRule):
    """Takes the gradient at ``w + radius * T^2 g / |T g|`` with ``T = |w| + eta`` (Kwon et al. 2021, algorithm 1).

    T is taken by element. Sharpness so measured does not change where weights are rescaled without changing the model.
    Weights that start at zero, such as one factor of LoRA, are at first moved through `eta` alone. A step makes two
    passes, and twice those of each term of the objective.
    """

    radius: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    eta: float = Field(default=0.01, gt=0, allow_inf_nan=False)

    @override
    def scaled(self, vector: Tensor, weight: Tensor) -> Tensor:
        return vector * (weight.abs() + self.eta)
