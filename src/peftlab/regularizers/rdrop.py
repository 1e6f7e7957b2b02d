"""R-Drop: two passes with different dropout masks should predict the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.regularizers.regularizer import Computed, Term, spec


@spec
class RDrop(Term):
    """Adds the divergence between the predictions under two dropout masks (Liang et al. 2021, equation 4).

    The objective is half of the paper's, so that the loss keeps its scale with and without the term:
    ``(CE1 + CE2) / 2 + strength / 4 * (KL(p1 || p2) + KL(p2 || p1))``, each averaged as the task's loss is. A step
    makes two passes. Where other terms replace a share of the task's loss, the two passes have equal parts in the rest.
    """

    strength: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """The paper's alpha, 1 to 5 there."""
    passes: ClassVar[int] = 1
    draws: ClassVar[bool] = True
    host_work: ClassVar[str | None] = None
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0}

    @override
    def losses(self, computed: Computed) -> Tensor:
        task, batch, first = computed.task, computed.batch, computed.outputs
        second = computed.forward(batch)
        apart = task.divergences(first, second, batch) + task.divergences(second, first, batch)
        both = computed.share / 2 * (task.losses(second, batch) - task.losses(first, batch))
        return both + self.strength / 4 * apart

    @override
    def idle(self, model: nn.Module) -> str | None:
        rates = [getattr(module, "p", 0) for module in model.modules() if isinstance(module, nn.Dropout)]
        return None if any(rates) else "no dropout is active in this model, so both passes give the same"
