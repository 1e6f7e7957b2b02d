"""The fast gradient method: the loss one step up its gradient at the embeddings."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.adversarial import AdversarialLoss
from peftlab.regularizers.regularizer import Computed, spec


@spec
class Fgm(AdversarialLoss):
    """Adds the loss at ``e + epsilon * g / |g|``, g its gradient at the embeddings e (Miyato et al. 2017, equation 5).

    The paper adds it to the clean loss; here the objective is ``(1 - share) * clean + share * adversarial``, which
    keeps its scale. Embeddings are not normalised, as pretrained ones have a scale of their own. A step makes two
    passes.
    """

    passes: ClassVar[int] = 1

    @override
    def losses(self, computed: Computed) -> Tensor:
        repeatable = computed.repeatable
        perturbation = self.epsilon * self.ball.steepest(repeatable.gradient, computed.batch)
        losses = self.losses_of(computed)(repeatable.repeat(perturbation))
        self.tell(computed, perturbation, losses)
        return self.share * losses
