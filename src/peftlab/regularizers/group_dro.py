"""Group DRO: the group with the largest loss counts most."""

from __future__ import annotations

import logging
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

log = logging.getLogger("peftlab")

FEWEST = 10
"""Examples of a group below which its large weight is worth a warning."""


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
    labels: bool = True
    """Whether groups are crossed with labels, as in the paper: else a model that takes the group for the label, where
    both go together, fails no group more than another. A label is the set of classes of an example."""
    adjustment: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """C of ``L(g) + C / sqrt(n(g))`` (equation 5), n(g) the examples of a group: small ones overfit more."""
    shares: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)
    """The share of each group, or of each with each label, in the weight of the training examples, shape (groups,)."""
    weights: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)
    """q, in the same order, shape (groups,)."""
    numbers: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)
    """The number of examples of each, shape (groups,)."""
    learns: ClassVar[bool] = True

    @override
    def weigh(self, groups: Sequence[str], material: Material) -> Sequence[int]:
        keys = [
            (group, *(sorted(material.task.classes(one)) if self.labels else ()))
            for group, one in zip(groups, material.examples, strict=True)
        ]
        order = {key: place for place, key in enumerate(sorted(set(keys)))}
        places = [order[key] for key in keys]
        totals = np.bincount(places, weights=material.weights())
        self.shares = torch.from_numpy(totals / totals.sum())
        self.numbers = torch.from_numpy(np.bincount(places)).double()
        self.weights = torch.full_like(self.shares, 1 / len(order))
        if (rarest := int(self.numbers.min())) < FEWEST:
            log.warning(
                "regularizer.group_dro: the smallest of %d groups has %d training examples, which weigh as much as any "
                "other group's%s",
                len(order),
                rarest,
                " (labels=false crosses them with no labels)" if self.labels else "",
            )
        return places

    @override
    def acted(self) -> Mapping[str, float]:
        return {"groups": len(self.weights), "largest_weight": float(self.weights.max())}

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
        computed.tell(by_group=one_hot(places, len(self.weights)).unsqueeze(-1) * both.unsqueeze(1))
        # a group without weight has no share, and no example of it is in the loss
        factors = torch.where(self.shares > 0, self.weights / self.shares, 0)
        return self.share * factors.to(losses.device, losses.dtype)[places] * losses

    @override
    def after_step(self, told: Mapping[str, Tensor]) -> None:
        losses, weights = told["by_group"].cpu().double().unbind(-1)
        means = torch.where(self.shares > 0, losses / (self.shares * weights.sum().clamp(min=1e-12)), 0)
        grown = self.weights * torch.exp(self.rate * (means + self.adjustment / self.numbers.sqrt()))
        self.weights = grown / grown.sum()
