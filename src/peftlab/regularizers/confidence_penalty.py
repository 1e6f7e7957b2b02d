"""The confidence penalty: predictions of low entropy cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import Computed, Term, spec


@spec
class ConfidencePenalty(Term):
    """Adds ``-strength * H(p)``, the entropy of the predicted distribution (Pereyra et al. 2017, section 3)."""

    strength: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """The paper's beta."""
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0}
    of_distributions: ClassVar[bool] = True
    host_work: ClassVar[str | None] = None

    @override
    def losses(self, computed: Computed) -> Tensor:
        predicted = computed.task.distributions(computed.outputs, computed.batch)
        log_p = predicted.logits.log_softmax(-1)
        entropy = predicted.by_example(-(log_p.exp() * log_p).sum(-1), computed.batch)
        computed.tell(entropy=entropy)
        return -self.strength * entropy
