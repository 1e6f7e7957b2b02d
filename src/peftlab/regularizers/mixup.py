"""Mixup of embeddings or hidden states: between two examples, the loss is between theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field, replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.methods.targets import blocks_of
from peftlab.regularizers.embeddings import changed, changed_after, without_embeddings
from peftlab.regularizers.regularizer import Computed, Term, spec
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task


@spec
class Mixup(Term):
    """Trains on pairs of a batch mixed inside the model, with their losses mixed alike (Guo et al. 2019).

    A row with hidden states e is paired with one with hidden states f of the same batch, drawn at random; the pass goes
    on with ``l * e + (1 - l) * f``, and the loss of the pair is ``l`` times that against the first one's targets plus
    ``1 - l`` times that against the other's (Zhang et al. 2018, equation 2). A token that only one of both has is mixed
    with padding, which is attended to from the first block on. A step makes two passes.
    """

    alpha: float = Field(default=0.2, gt=0, allow_inf_nan=False)
    """The mixing share l has the distribution Beta(alpha, alpha), one draw a batch."""
    layers: list[int] = Field(default_factory=lambda: [0], min_length=1)
    """Where to mix: 0 is the output of the embedding module, n that of the nth block. Of several, one is drawn for
    each batch (Verma et al. 2019, section 2; Chen et al. 2020 take 7, 9 and 12 of BERT's 12).
    """
    share: float = Field(default=1.0, ge=0, le=1)
    """The share of the mixed loss in the objective; the rest is the task's."""
    rows: int = field(default=0, init=False)
    """The number of rows in the last pass."""
    passes: ClassVar[int] = 1
    couples: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    from_embeddings: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, float]] = {"share": 0}
    host_work: ClassVar[str | None] = "it draws pairs and their share"

    @property
    @override
    def replaces(self) -> float:
        return self.share

    @override
    def idle(self, model: nn.Module) -> str | None:
        return never_mixed(model, self.layers)

    @override
    def acted(self) -> Mapping[str, float] | None:
        return {"rows": self.rows} if self.rows > 1 else None  # the last batch of a bucket may be a single row

    @override
    def losses(self, computed: Computed) -> Tensor:
        batch, task = computed.batch, computed.task
        rows = len(next(iter(batch.inputs.values())))
        self.rows = rows - batch.copies
        order = torch.randperm(self.rows)
        other = torch.arange(rows).scatter(0, order, order.roll(1)).to(batch.weights.device)  # only a copy is its own
        kept = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        inputs = dict(batch.inputs)
        if (mask := inputs.get("attention_mask")) is not None:
            inputs["attention_mask"] = torch.maximum(mask, mask[other])
        with self.changed_in(computed.model, lambda states: kept * states + (1 - kept) * states[other]):
            outputs = computed.forward(replace(batch, inputs=inputs))
        computed.tell(mixed=torch.full_like(batch.weights, 1 - kept).float())
        mixed = kept * task.losses(outputs, batch) + (1 - kept) * of_partners(task, outputs, batch, other)
        return self.share * mixed

    def changed_in(self, model: nn.Module, change: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
        """Pass the hidden states of a layer through `change`; the layer is drawn if there are several."""
        drawn = self.layers[int(torch.randint(len(self.layers), ()))] if len(self.layers) > 1 else self.layers[0]
        return changed_at(model, drawn, change)


def of_partners(task: Task, outputs: Any, batch: Batch, other: Tensor) -> Tensor:
    """Return the losses of rows against the targets of the rows that they are mixed with, shape (examples,).

    Where factors differ, a loss stands at the example whose targets it is of: that one's factor is to be on it.

    Args:
        task: the task.
        outputs: the model's, of mixed rows.
        batch: the batch before it was mixed.
        other: the row that each row is mixed with, a permutation, shape (rows,).
    """
    factors = None if batch.factors is None else batch.factors[: len(batch.examples)]  # those of copies are 0
    differ = factors is not None and bool((factors != 1).any())
    targets = {name: target[other] for name, target in batch.targets.items()}
    if len(batch.rows) > len(batch.weights):
        rows = batch.rows[other] if differ else batch.rows
        return task.losses(outputs, replace(batch, targets=targets, rows=rows))
    losses = task.losses(outputs, replace(batch, targets=targets, weights=batch.weights[other]))
    return losses[other.argsort()] if differ else losses


def never_mixed(model: nn.Module, layers: Sequence[int]) -> str | None:
    """Return why hidden states of `model` cannot be mixed at all of `layers`; None: they can."""
    blocks = list(blocks_of(model))
    if odd := [layer for layer in layers if not 0 <= layer <= len(blocks)]:
        return f"layers = {layers}: the model has no layer {odd[0]}. Allowed: 0 to {len(blocks)}"
    if max(layers) and getattr(model, "is_gradient_checkpointing", False):
        return (
            f"layers = {layers}: with trainer.gradient_checkpointing, blocks run again in the backward pass, "
            "where nothing is mixed. Allowed there: layers=[0]"
        )
    return without_embeddings(model) if 0 in layers else None


def changed_at(model: nn.Module, layer: int, change: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
    """Pass the hidden states of a layer through `change` in the next pass: 0 is the output of the embedding module."""
    return changed_after(list(blocks_of(model))[layer - 1], change) if layer else changed(model, change)
