"""The base of regularisers that perturb input embeddings in the worst direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.regularizers.embeddings import Ball, without_embeddings
from peftlab.regularizers.regularizer import Computed, Term, spec


@spec
class AdversarialTerm(Term):
    """Perturbs the output of the embedding module, so that it acts under every method, whatever is trained.

    Padding and special tokens stay as they are; the norm of a perturbation is that of its own example; and both passes
    have the same dropout masks.
    """

    epsilon: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    """The largest norm of a perturbation."""
    norm: Literal["l2", "linf"] = "l2"
    scope: Literal["sentence", "token"] = "sentence"
    """Whether the norm is over all tokens of an example, or over each token."""
    from_embeddings: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, float]] = {"epsilon": 0}
    host_work: ClassVar[str | None] = "it repeats a pass with random numbers whose state the host keeps"

    @property
    def ball(self) -> Ball:
        """The perturbations it may choose."""
        return Ball(self.epsilon, self.norm, self.scope)

    @override
    def idle(self, model: nn.Module) -> str | None:
        return without_embeddings(model)


@spec
class AdversarialLoss(AdversarialTerm):
    """Replaces a share of the task's loss by the loss at perturbed embeddings."""

    share: float = Field(default=0.5, ge=0, le=1)
    """The share of the adversarial loss in the objective; the rest is the task's."""
    from_gradient: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, float]] = {"epsilon": 0, "share": 0}

    @property
    @override
    def replaces(self) -> float:
        return self.share

    @property
    def reach(self) -> float:
        """The largest norm that its steps come to, whatever epsilon is; infinite: epsilon alone limits them."""
        return math.inf

    def losses_of(self, computed: Computed) -> Callable[[Any], Tensor]:
        """Return the function from outputs to the task's losses."""
        return lambda outputs: computed.task.losses(outputs, computed.batch)

    def tell(self, computed: Computed, perturbation: Tensor, losses: Tensor) -> None:
        """Note the norm of the perturbation, and by how much it raised the loss."""
        clean = computed.task.losses(computed.outputs, computed.batch)
        computed.tell(
            perturbation_norm=self.ball.norms(perturbation, computed.batch), loss_rise=losses.detach() - clean.detach()
        )
