"""Mixup of embeddings: between two examples, the loss is between theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.regularizers.embeddings import changed, without_embeddings
from peftlab.regularizers.regularizer import Computed, Term, spec


@spec
class Mixup(Term):
    """Trains on pairs of a batch mixed at their embeddings, with their losses mixed alike (Guo et al. 2019).

    A row with embeddings e is paired with one with embeddings f of the same batch, drawn at random; the pass is over
    ``l * e + (1 - l) * f``, and the loss of the pair is ``l`` times that against the first one's targets plus ``1 - l``
    times that against the other's (Zhang et al. 2018, equation 2). A token that only one of both has is mixed with
    padding.
    """

    alpha: float = Field(default=0.2, gt=0, allow_inf_nan=False)
    """The mixing share l has the distribution Beta(alpha, alpha), one draw a batch."""
    share: float = Field(default=1.0, ge=0, le=1)
    """The share of the mixed loss in the objective; the rest is the task's."""
    rows: int = field(default=0, init=False)
    """The number of rows in the last pass."""
    passes: ClassVar[int] = 1
    couples: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    from_embeddings: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, float]] = {"share": 0}

    @property
    @override
    def replaces(self) -> float:
        return self.share

    @override
    def idle(self, model: nn.Module) -> str | None:
        return without_embeddings(model)

    @override
    def acted(self) -> Mapping[str, float] | None:
        return {"rows": self.rows} if self.rows > 1 else None  # the last batch of a bucket may be a single row

    @override
    def losses(self, computed: Computed) -> Tensor:
        batch, task = computed.batch, computed.task
        self.rows = len(next(iter(batch.inputs.values())))
        order = torch.randperm(self.rows)
        other = torch.empty_like(order).scatter(0, order, order.roll(1)).to(batch.weights.device)  # none is its own
        kept = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        inputs = dict(batch.inputs)
        if (mask := inputs.get("attention_mask")) is not None:
            inputs["attention_mask"] = torch.maximum(mask, mask[other])
        with changed(computed.model, lambda e: kept * e + (1 - kept) * e[other]):
            outputs = computed.forward(replace(batch, inputs=inputs))
        partner = replace(batch, targets={name: target[other] for name, target in batch.targets.items()})
        computed.tell(mixed=torch.full_like(batch.weights, 1 - kept).float())
        mixed = kept * task.losses(outputs, batch) + (1 - kept) * task.losses(outputs, partner)
        return self.share * mixed
