"""Focal loss: what is predicted well already counts less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.embeddings import TINY
from peftlab.regularizers.regularizer import Computed, Term, spec


@spec
class Focal(Term):
    """Replaces the cross-entropy by ``-(1 - p) ** gamma * log p``, p that of the gold class (Lin et al. 2017, eq. 4).

    Class weights, the paper's alpha, are `task.class_weights`; `task.label_smoothing` has no part in this loss.
    """

    gamma: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    """The focusing parameter, 0.5 to 5 in the paper; at 0 it is the cross-entropy."""
    neutral: ClassVar[Mapping[str, float]] = {"gamma": 0}
    of_distributions: ClassVar[bool] = True
    host_work: ClassVar[str | None] = None

    @property
    @override
    def replaces(self) -> float:
        return 1.0

    @override
    def losses(self, computed: Computed) -> Tensor:
        predicted = computed.task.distributions(computed.outputs, computed.batch)
        log_p = predicted.logits.log_softmax(-1).gather(-1, predicted.gold.unsqueeze(-1)).squeeze(-1)
        # 1 - p, exact where p is near 1, and never 0: there the slope of a power below 1 is infinite
        factor = (-log_p.expm1()).clamp(min=TINY).pow(self.gamma)
        return predicted.by_example(-factor * log_p, computed.batch)
