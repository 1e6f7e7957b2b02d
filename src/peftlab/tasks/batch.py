"""A batch: tensors for the model and the loss, and data that only the host needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

ENTITY_SPANS = "entity_spans"
"""The input with the places of two entities, their markers included, in tokens of the row: (rows, 2, 2), start and end.
Tokens that a method adds before a text are not counted. Only a pooling reads it, see `peftlab.models.pooling`."""

LEARNT = "learnt"
"""The entry of `Batch.host` with the number of tokens that a language model learns, of all examples."""


class Part(NamedTuple):
    """The examples of a split that one forward pass takes."""

    examples: list[int]
    """Their indices; empty: nothing is left for this pass, which runs on a filler."""
    batch: list[int]
    """The examples of the whole step, or those that the filler is taken from."""
    epoch: int | None = None
    """Training epoch, from 0; None: an evaluation."""
    size: int | None = None
    """The number of examples that the pass is filled up to, see `peftlab.data.static_shapes`; None: it is not."""


@dataclass(slots=True)
class Batch:
    """Examples of one forward pass, collated."""

    inputs: dict[str, Tensor]
    """The arguments of the model's forward."""
    targets: dict[str, Tensor]
    """The targets of the loss."""
    weights: Tensor
    """The weight of each example in the mean loss, shape (examples,), in double precision."""
    rows: Tensor
    """The example, from 0, that each row of the inputs belongs to, in order, shape (rows,). Each has one or more. Of a
    row of several examples, see `pieces`, it is the first."""
    examples: list[Any]
    """The examples, each with its ``id``; empty: a filler, which is computed but has no weight. In a batch with
    `copies`, they are the first of those that `weights` counts."""
    tokens: int
    """Tokens without padding."""
    host: dict[str, Any] = field(default_factory=dict)
    """Other data that the task needs to read answers off the outputs."""
    padding: dict[str, int] = field(default_factory=dict)
    """The value that pads each input or target, by name, whose second dimension is one of tokens. Those that are not
    named keep their size."""
    copies: int = 0
    """The number of rows, the last ones, that fill up the batch: copies of its first row, of examples without weight
    whose factors are 0."""
    pieces: Tensor | None = None
    """The example of each token, shape (rows, tokens), -1 for padding, where rows hold several examples; None: each row
    belongs to one."""
    factors: Tensor | None = None
    """The factor on the weight of each example, shape (examples,), in double precision; None: 1 for all."""
    scale: float = 1.0
    """The share of this batch in its step: the factor of its mean loss."""
    split: str = ""
    """The split that the examples come from."""
    part: Part | None = None
    """The indices of the examples in that split."""

    @property
    def positions(self) -> int:
        """The number of tokens, padding included."""
        return int(next(iter(self.inputs.values())).numel())

    @property
    def shape(self) -> tuple[int, int]:
        """The size of the first input: its rows, and its tokens with padding."""
        rows, tokens = next(iter(self.inputs.values())).shape[:2]
        return rows, tokens

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on `device`; the same object if they are there already."""
        if self.weights.device == device:
            return self
        # from page-locked memory, the host need not wait for the copy; from other memory, torch waits by itself
        waits = device.type != "cuda"
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=not waits))

    def pin_memory(self) -> Batch:
        """Return the batch with its tensors in page-locked memory; torch's loaders call this."""
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            inputs={name: change(tensor) for name, tensor in self.inputs.items()},
            targets={name: change(tensor) for name, tensor in self.targets.items()},
            weights=change(self.weights),
            rows=change(self.rows),
            pieces=None if self.pieces is None else change(self.pieces),
            factors=None if self.factors is None else change(self.factors),
        )

    def mean(self, losses: Tensor) -> Tensor:
        """Return the sum of `losses`, shape (examples,), over the sum of the weights; 0 if no example has weight.

        Both are multiplied by the `factors`, if any.
        """
        weights = self.weights
        if self.factors is not None:
            losses, weights = losses * self.factors.to(losses.dtype), weights * self.factors
        weight = weights.sum()
        return losses.sum() / torch.where(weight > 0, weight, 1).to(losses.dtype)

    def by_example(self, of_rows: Tensor) -> Tensor:
        """Return `of_rows`, shape (rows,), summed over the rows of each example, shape (examples,)."""
        if len(self.rows) == len(self.weights):  # one row each
            return of_rows
        return of_rows.new_zeros(len(self.weights)).index_add(0, self.rows, of_rows)

    def by_token(self, of_tokens: Tensor) -> Tensor:
        """Return `of_tokens`, shape (rows, tokens, ...), summed over the tokens of each example, shape (examples,)."""
        if self.pieces is None:
            return self.by_example(of_tokens.flatten(1).sum(-1))
        values = torch.where(self.pieces < 0, 0, of_tokens).flatten()
        return values.new_zeros(len(self.weights)).index_add(0, self.pieces.clamp(min=0).flatten(), values)

    def largest(self, of_tokens: Tensor) -> Tensor:
        """Return the largest of `of_tokens`, shape (rows, tokens), none below 0, of each example, shape (examples,)."""
        if self.pieces is None:
            values, places = of_tokens.amax(-1), self.rows
        else:
            values, places = torch.where(self.pieces < 0, 0, of_tokens).flatten(), self.pieces.clamp(min=0).flatten()
        return values.new_zeros(len(self.weights)).scatter_reduce(0, places, values, "amax")

    def spread(self, of_examples: Tensor) -> Tensor:
        """Return `of_examples`, shape (examples,), at each token of an example: (rows, tokens), or (rows, 1) where each
        row belongs to one."""
        return of_examples[self.rows].unsqueeze(-1) if self.pieces is None else of_examples[self.pieces.clamp(min=0)]

    @property
    def real(self) -> Tensor | None:
        """Which tokens are not padding, shape (rows, tokens), 1 or 0; None: all, or the task does not say."""
        return self.inputs.get("attention_mask") if self.pieces is None else (self.pieces >= 0).long()
