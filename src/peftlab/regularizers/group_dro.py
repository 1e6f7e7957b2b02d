"""Group DRO: the group with the largest loss counts most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot
from typing_extensions import override

from peftlab.regularizers.of_groups import OfGroups
from peftlab.regularizers.regularizer import Computed, Material, spec


@spec
class GroupDro(OfGroups):
    """Minimises ``sum q(g) L(g)``, with L(g) the mean loss of group g, for the worst weights q of the groups (Sagawa et
    al. 2020, equation 4 and algorithm 1).

    The weights q, equal at the start, follow their gradient: after each step they are multiplied by
    ``exp(rate * L(g))`` and divided by their sum. Batches are drawn from all examples, not group by group as in the
    paper, so both L(g) and its gradient are estimated by what group g adds to the loss of the batch, divided by its
    share of the training weight: of a group that is absent this is 0, and on average it is right.
    """

    rate: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    """The step size of q, 0.01 in the paper."""
    adjustment: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """C of ``L(g) + C / sqrt(n(g))`` (equation 5), n(g) the examples of a group: small ones overfit more."""
    shares: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)
    """The share of each group in the weight of the training examples, shape (groups,)."""
    weights: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)
    """q, in the order of `sizes`, shape (groups,)."""
    learns: ClassVar[bool] = True

    @override
    def weigh(self, groups: Sequence[str], material: Material) -> Sequence[int]:
        order = {group: place for place, group in enumerate(self.sizes)}
        places = [order[group] for group in groups]
        totals = np.bincount(places, weights=material.weights(), minlength=len(order))
        self.shares = torch.from_numpy(totals / totals.sum())
        self.weights = torch.full_like(self.shares, 1 / len(order))
        return places

    @override
    def acted(self) -> Mapping[str, float]:
        return {"groups": len(self.sizes), "largest_weight": float(self.weights.max())}

    @override
    def state(self) -> dict[str, Tensor]:
        return {"weights": self.weights}

    @override
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.weights = state["weights"]

    @override
    def losses(self, computed: Computed) -> Tensor:
        batch, losses = computed.batch, computed.task.losses(computed.outputs, computed.batch)
        places = self.places_in(batch)
        both = torch.stack([losses.double(), batch.weights], -1)
        both = both if batch.factors is None else both * batch.factors.unsqueeze(-1)
        computed.tell(by_group=one_hot(places, len(self.sizes)).unsqueeze(-1) * both.unsqueeze(1))
        # a group without weight has no share, and no example of it is in the loss
        factors = torch.where(self.shares > 0, self.weights / self.shares, 0)
        return self.share * factors.to(losses.device, losses.dtype)[places] * losses

    @override
    def after_step(self, told: Mapping[str, Tensor]) -> None:
        losses, weights = told["by_group"].cpu().double().unbind(-1)
        sizes = torch.tensor(list(self.sizes.values()), dtype=torch.float64)
        means = torch.where(self.shares > 0, losses / (self.shares * weights.sum().clamp(min=1e-12)), 0)
        grown = self.weights * torch.exp(self.rate * (means + self.adjustment / sizes.sqrt()))
        self.weights = grown / grown.sum()
