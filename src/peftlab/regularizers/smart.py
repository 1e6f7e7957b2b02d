"""SMART's smoothness: predictions at nearby embeddings are to agree both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.adversarial import AdversarialTerm
from peftlab.regularizers.outputs import detached
from peftlab.regularizers.regularizer import Computed, spec


@spec
class Smart(AdversarialTerm):
    """Adds the largest symmetric divergence of the predictions in a ball (Jiang et al. 2020, equation 1).

    That is the paper's smoothness-inducing term, found by projected ascent from noise with steps along the normalised
    gradient (its algorithm 1). Its other part, Bregman proximal point optimisation, is not included; `l2_sp` and `ema`
    hold weights near earlier ones. A step of the training makes 2 + `steps` passes.
    """

    strength: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """The paper's lambda_s, 1 to 5 there."""
    epsilon: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    norm: Literal["l2", "linf"] = "linf"
    steps: int = Field(default=1, ge=1)
    step_size: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    """The paper's eta."""
    noise: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """The standard deviation of the noise from which the ascent begins, the paper's sigma."""
    draws: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, float]] = {"epsilon": 0, "strength": 0}

    @property
    def passes(self) -> int:  # type: ignore[override]  # it depends on an option
        """One for each step and one at the end."""
        return self.steps + 1

    @override
    def losses(self, computed: Computed) -> Tensor:
        repeatable, batch, task = computed.repeatable, computed.batch, computed.task
        fixed = detached(computed.outputs)

        def apart(clean: object, perturbed: object) -> Tensor:
            return task.divergences(perturbed, clean, batch) + task.divergences(clean, perturbed, batch)

        noise = self.noise * torch.randn_like(repeatable.like, dtype=torch.float32)
        perturbation = noise if repeatable.mask is None else noise * repeatable.mask
        for _ in range(self.steps):
            gradient = repeatable.gradient_at(perturbation, lambda outputs: apart(fixed, outputs))
            climbed = perturbation + self.step_size * self.ball.steepest(gradient, batch)
            perturbation = self.ball.projected(climbed, batch)
        divergences = apart(computed.outputs, repeatable.repeat(perturbation))
        computed.tell(perturbation_norm=self.ball.norms(perturbation, batch), divergence=divergences)
        return self.strength * divergences
