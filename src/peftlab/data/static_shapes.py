"""A small number of batch shapes: rows padded to a few lengths, and training batches filled up to one size.

A GPU works fastest on shapes that it has seen before: a CUDA graph is captured for one shape, and libraries choose,
plan or compile a kernel for each new one. Nothing of this changes a result by more than rounding: padding is masked,
and the copies that fill a batch have no weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from peftlab.tasks.batch import LEARNT, Batch

_FINE, _COARSE, _FINE_TO = 8, 16, 64
"""The steps between sizes, up to `_FINE_TO` and above. Matrix products in bf16 and fp16 want multiples of 8."""


def rounded(size: int) -> int:
    """Return the smallest size of the grid that is at least `size`: multiples of 8 up to 64, of 16 above."""
    step = _FINE if size <= _FINE_TO else _COARSE
    return -(-size // step) * step


def widened(batch: Batch, width: Callable[[int], int]) -> Batch:
    """Return `batch` with rows of `width` tokens, a function of the number that they have."""

    def filled(name: str, tensor: Tensor) -> Tensor:
        padding = batch.padding.get(name)
        if padding is None or (missing := width(tensor.shape[1]) - tensor.shape[1]) == 0:
            return tensor
        return F.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, missing), value=padding)

    inputs, targets = (
        {name: filled(name, tensor) for name, tensor in tensors.items()} for tensors in (batch.inputs, batch.targets)
    )
    return replace(batch, inputs=inputs, targets=targets)


@dataclass(frozen=True)
class StaticShapes:
    """Pads batches to a few shapes."""

    most: int
    """The largest number of tokens that a row is padded to: the model may have no positions for more."""

    def width(self, tokens: int) -> int:
        """Return the number of tokens that rows of `tokens` tokens are padded to."""
        return max(tokens, min(rounded(tokens), self.most))

    def height(self, rows: int, size: int) -> int:
        """Return the number of rows that `rows` are filled up to: `size`, or a size of the grid if they are more."""
        return size if rows <= size else rounded(rows)

    def padded(self, batch: Batch, size: int | None = None) -> Batch:
        """Return `batch` padded, and filled up.

        The copies in a filled batch are rows of further examples, whose weight and factor are 0. Where each example has
        one row, so has each of these; where some have several, there is one example less than there are rows. Every
        filled batch has `Batch.factors`, so that the loss of all is computed alike. Rows of several examples stay as
        they are.

        Args:
            batch: a batch that is as wide as its longest row.
            size: the number of examples that it is filled up to; None: it is not.
        """
        if batch.pieces is not None:
            return batch
        # what the host knows of one batch must not stand in the work of all that have its shape
        host = {name: value for name, value in batch.host.items() if name != LEARNT}
        batch = replace(widened(batch, self.width), host=host)
        return batch if size is None else self._filled(batch, size)

    def _filled(self, batch: Batch, size: int) -> Batch:
        rows, examples = len(batch.rows), len(batch.weights)
        height = self.height(rows, size)
        count = height if examples == rows else height - 1
        factors = torch.ones_like(batch.weights) if batch.factors is None else batch.factors
        copies = height - rows
        if height == rows == examples:
            return replace(batch, factors=factors)

        def filled(tensor: Tensor) -> Tensor:
            own = len(tensor) if tensor.ndim else None
            missing = height - rows if own == rows else count - examples if own == examples else 0
            return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])]) if missing else tensor

        none = batch.weights.new_zeros(count - examples)
        of_copies = torch.arange(examples, examples + copies).clamp(max=count - 1)
        return replace(
            batch,
            inputs={name: filled(tensor) for name, tensor in batch.inputs.items()},
            targets={name: filled(tensor) for name, tensor in batch.targets.items()},
            weights=torch.cat([batch.weights, none]),
            factors=torch.cat([factors, none]),
            rows=torch.cat([batch.rows, of_copies]),
            copies=copies,
        )
