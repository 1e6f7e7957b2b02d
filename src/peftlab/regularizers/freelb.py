"""FreeLB: the mean loss along the way up the gradient at the embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.adversarial import AdversarialLoss
from peftlab.regularizers.regularizer import Computed, spec


@spec
class FreeLb(AdversarialLoss):
    """Averages the losses at the start and at each further step up the gradient (Zhu et al. 2020, algorithm 1).

    Each pass gives the gradient of the weights and that of the embeddings at once, so that the ascent costs no
    passes of its own: a step of the training makes `steps` passes, and one more where the ascent begins at random.
    """

    share: float = Field(default=1.0, ge=0, le=1)
    """The share of the mean of these losses in the objective; in the paper, 1."""
    steps: int = Field(default=3, ge=1)
    """The number of losses that are averaged; 1 from zero is the task's loss alone."""
    step_size: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    init: Literal["zero", "uniform"] = "zero"
    """Where the steps begin: at the embeddings themselves, whose loss is the task's, or at random in the ball."""

    @property
    @override
    def off(self) -> str | None:
        return "steps=1 from init=zero" if self.steps == 1 and self.init == "zero" else super().off

    @property
    def draws(self) -> bool:  # type: ignore[override]  # it depends on an option
        """Whether the steps begin at random."""
        return self.init == "uniform"

    @property
    def passes(self) -> int:  # type: ignore[override]  # it depends on an option
        """One for each loss but that at the embeddings."""
        return self.steps - (self.init == "zero")

    @property
    @override
    def replaces(self) -> float:
        return self.share * self.passes / self.steps

    @property
    @override
    def reach(self) -> float:
        return self.passes * self.step_size if self.init == "zero" else super().reach

    @override
    def losses(self, computed: Computed) -> Tensor:
        repeatable, batch, losses_of = computed.repeatable, computed.batch, self.losses_of(computed)
        if self.init == "uniform":
            perturbation = self.ball.drawn(repeatable.like, repeatable.mask, batch)
        else:
            start = torch.zeros_like(repeatable.gradient)
            perturbation = self._climbed(start, repeatable.gradient, computed)
        total = torch.zeros((), device=batch.weights.device)
        for left in reversed(range(self.passes)):
            losses, gradient = repeatable.differentiated_at(perturbation, losses_of)
            total = total + losses
            if left:
                perturbation = self._climbed(perturbation, gradient, computed)
        self.tell(computed, perturbation, losses)
        return self.share / self.steps * total

    def _climbed(self, perturbation: Tensor, gradient: Tensor, computed: Computed) -> Tensor:
        step = self.step_size * self.ball.steepest(gradient, computed.batch)
        return self.ball.projected(perturbation + step, computed.batch)
