"""A batch: tensors for the model and the loss, and beside them what only the host needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Part(NamedTuple):
    """Which examples of a split one forward pass takes."""

    examples: list[int]
    """Their indices; none: there is nothing left for this pass, which is made all the same, on a filler."""
    batch: list[int]
    """The examples of the whole step, or where the filler is taken from."""
    epoch: int | None = None
    """Of the training, from 0; None: an evaluation."""


@dataclass(slots=True)
class Batch:
    """Examples of one forward pass, collated."""

    inputs: dict[str, Tensor]
    """What the model's forward takes."""
    targets: dict[str, Tensor]
    """What the loss needs beside the outputs."""
    weights: Tensor
    """What each example counts for in the mean loss, shape (examples,), in double precision."""
    rows: Tensor
    """The example, from 0, that each row of the inputs belongs to, shape (rows,)."""
    examples: list[Any]
    """The examples, each with its ``id``; none: a filler, which is computed and counts for nothing."""
    tokens: int
    """Tokens without padding."""
    host: dict[str, Any] = field(default_factory=dict)
    """What else the task needs to read answers off the outputs."""
    scale: float = 1.0
    """The share of this batch in the step that it is a part of: what its mean loss counts for there."""
    split: str = ""
    """The split that the examples come from."""
    part: Part | None = None
    """Where they are in that split."""

    @property
    def positions(self) -> int:
        """The number of tokens, padding included."""
        return int(next(iter(self.inputs.values())).numel())

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on `device`; the very same batch where they are there."""
        if self.weights.device == device:
            return self
        return replace(
            self,
            inputs={name: tensor.to(device) for name, tensor in self.inputs.items()},
            targets={name: tensor.to(device) for name, tensor in self.targets.items()},
            weights=self.weights.to(device),
            rows=self.rows.to(device),
        )

    def mean(self, losses: Tensor) -> Tensor:
        """Return the mean of `losses`, shape (examples,), by the weights of the examples, 0 where nothing counts."""
        weight = self.weights.sum()
        return losses.sum() / torch.where(weight > 0, weight, 1).to(losses.dtype)

    def by_example(self, of_rows: Tensor) -> Tensor:
        """Return the sums of `of_rows`, shape (rows,), over the rows of each example, shape (examples,)."""
        return of_rows.new_zeros(len(self.weights)).index_add(0, self.rows, of_rows)
