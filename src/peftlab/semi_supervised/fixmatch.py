"""FixMatch: certain guesses are learnt as labels, on strongly edited texts."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import spec
from peftlab.semi_supervised.consistency import Consistency, Judged, certain
from peftlab.semi_supervised.predicted import sharpened


@spec
class FixMatch(Consistency):
    """Learns the most probable class where its probability reaches the threshold (Sohn et al. 2020, equation 4)."""

    threshold: float = Field(default=0.95, ge=0, allow_inf_nan=False)
    """The paper's tau; above 1, nothing is learnt."""

    @override
    def judge(self, guesses: Tensor) -> Judged:
        return Judged(sharpened(guesses, 0), *certain(guesses, self.threshold))
