"""Virtual adversarial training: predictions are to be smooth around the embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.adversarial import AdversarialTerm
from peftlab.regularizers.outputs import detached
from peftlab.regularizers.regularizer import Computed, spec


@spec
class Vat(AdversarialTerm):
    """Adds the divergence of the predictions at the most sensitive perturbation (Miyato et al. 2018, equation 5).

    The perturbation is found by power iteration on the divergence (their section 3.3); it needs no gold labels. A step
    of the training makes 2 + `steps` passes.
    """

    strength: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """The paper's alpha."""
    steps: int = Field(default=1, ge=1)
    """Power iterations."""
    probe: float = Field(default=0.02, gt=0, allow_inf_nan=False)
    """The norm of the perturbation at which the divergence is differentiated, the paper's xi."""
    draws: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, float]] = {"epsilon": 0, "strength": 0}

    @property
    def passes(self) -> int:  # type: ignore[override]  # it depends on an option
        """One for each iteration and one at its end."""
        return self.steps + 1

    @override
    def losses(self, computed: Computed) -> Tensor:
        repeatable, batch, task = computed.repeatable, computed.batch, computed.task
        fixed = detached(computed.outputs)
        direction = self.ball.steepest(self.ball.drawn(repeatable.like, repeatable.mask, batch), batch)
        for _ in range(self.steps):
            gradient = repeatable.gradient_at(
                self.probe * direction, lambda outputs: task.divergences(fixed, outputs, batch)
            )
            direction = self.ball.steepest(gradient, batch)
        perturbation = self.epsilon * direction
        apart = task.divergences(fixed, repeatable.repeat(perturbation), batch)
        computed.tell(perturbation_norm=self.ball.norms(perturbation, batch), divergence=apart)
        return self.strength * apart
