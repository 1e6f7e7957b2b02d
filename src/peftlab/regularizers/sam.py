"""Sharpness-aware minimisation: the gradient at the worst weights nearby."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import spec
from peftlab.regularizers.sharpness import SharpnessRule


@spec
class Sam(SharpnessRule):
    """Takes the gradient at ``w + radius * g / |g|``, where g is the one at w (Foret et al. 2021, eqs. 2 and 3).

    A step makes two passes, and twice those of each term of the objective.
    """

    @override
    def scaled(self, vector: Tensor, weight: Tensor) -> Tensor:
        return vector
