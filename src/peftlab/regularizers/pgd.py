"""Projected gradient descent: the loss after several steps up its gradient at the embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.adversarial import AdversarialLoss
from peftlab.regularizers.regularizer import Computed, spec


@spec
class Pgd(AdversarialLoss):
    """Adds the loss at the end of `steps` projected steps up its gradient (Madry et al. 2018, section 2.1).

    A step of the training makes 1 + `steps` passes, and one more where the steps up begin at random.
    """

    steps: int = Field(default=3, ge=1)
    step_size: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    init: Literal["zero", "uniform"] = "zero"
    """Where the steps begin: at the embeddings themselves, or at random in the ball."""

    @property
    def draws(self) -> bool:  # type: ignore[override]  # it depends on an option
        """Whether the steps begin at random."""
        return self.init == "uniform"

    @property
    def passes(self) -> int:  # type: ignore[override]  # it depends on an option
        """One at the end, and one for each step that does not begin at the embeddings."""
        return self.steps + (self.init == "uniform")

    @property
    @override
    def reach(self) -> float:
        return self.steps * self.step_size if self.init == "zero" else super().reach

    @override
    def losses(self, computed: Computed) -> Tensor:
        repeatable, batch, losses_of = computed.repeatable, computed.batch, self.losses_of(computed)
        if self.init == "uniform":
            perturbation = self.ball.drawn(repeatable.like, repeatable.mask, batch)
            gradient = repeatable.gradient_at(perturbation, losses_of)
        else:
            perturbation, gradient = torch.zeros_like(repeatable.gradient), repeatable.gradient
        for left in reversed(range(self.steps)):
            climbed = perturbation + self.step_size * self.ball.steepest(gradient, batch)
            perturbation = self.ball.projected(climbed, batch)
            if left:
                gradient = repeatable.gradient_at(perturbation, losses_of)
        losses = losses_of(repeatable.repeat(perturbation))
        self.tell(computed, perturbation, losses)
        return self.share * losses
