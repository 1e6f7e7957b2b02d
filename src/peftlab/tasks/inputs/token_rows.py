"""Rows of tokens, as they lie in an encoding and in a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from peftlab.tasks.task import Encoded


def cut(encoded: Encoded, tokens: str, starts: str, index: int) -> np.ndarray:
    """Return the row of an example in an array of `tokens`, whose pointer is `starts`."""
    span = slice(*encoded.arrays[starts][index : index + 2])
    return encoded.arrays[tokens][span].astype(np.int64)


def padded(rows: Sequence[np.ndarray], fill: int) -> Tensor:
    """Return rows as a tensor of shape (rows, tokens), of at least one token."""
    values = np.full((len(rows), max(1, *map(len, rows))), fill, dtype=np.int64)
    for n, row in enumerate(rows):
        values[n, : len(row)] = row
    return torch.from_numpy(values)
