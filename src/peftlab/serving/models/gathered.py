"""Layers of a backbone on the rows of many runs: its own part at once, and on each row the vectors of its run.

Every function takes, by row, the edit that the row's run makes, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlab.serving.models.edits import Linear, Norm


def linear(layer: nn.Linear, x: Tensor, edits: Sequence[Linear | None]) -> Tensor:
    """Return the output of a linear layer, shape (rows, ..., out), for `x` of shape (rows, ..., in); see `Linear`."""
    plain = Linear()
    of_rows = [edit or plain for edit in edits]
    rows = x.reshape(len(x), -1, x.shape[-1])
    if any(edit.inputs is not None for edit in of_rows):
        rows = (rows * _vectors([edit.inputs for edit in of_rows], 1.0, layer.in_features)).to(x.dtype)
    out = F.linear(rows, layer.weight, layer.bias)
    if any(edit.down is not None for edit in of_rows):
        rank = max(len(edit.down) for edit in of_rows if edit.down is not None)
        down = _matrices([edit.down for edit in of_rows], (rank, layer.in_features)).to(out.dtype)
        up = _matrices([edit.up for edit in of_rows], (layer.out_features, rank)).to(out.dtype)
        out.baddbmm_(torch.bmm(rows.to(out.dtype), down.mT), up.mT)
    if any(edit.outputs is not None for edit in of_rows):
        out = (out * _vectors([edit.outputs for edit in of_rows], 1.0, layer.out_features)).to(out.dtype)
    if any(edit.shift is not None for edit in of_rows):
        out = (out + _vectors([edit.shift for edit in of_rows], 0.0, layer.out_features)).to(out.dtype)
    return out.view(*x.shape[:-1], -1)


def norm(layer: nn.LayerNorm, x: Tensor, edits: Sequence[Norm | None]) -> Tensor:
    """Return the output of a layer normalisation for `x`, shape (rows, ..., size); see `Norm`."""
    own = Norm(layer.weight, layer.bias)
    rows = x.reshape(len(x), -1, x.shape[-1])
    weight, bias = (torch.stack([(edit or own)[place] for edit in edits]).unsqueeze(1) for place in (0, 1))
    normal = F.layer_norm(rows, layer.normalized_shape, eps=layer.eps)
    return torch.addcmul(bias, normal, weight).view(x.shape)


GATHERED: dict[type, tuple[type[nn.Module], Callable[..., Tensor]]] = {
    Linear: (nn.Linear, linear),
    Norm: (nn.LayerNorm, norm),
}
"""By the type of an edit: the class of the backbone's layer, and what computes it."""


def _vectors(vectors: Sequence[Tensor | None], neutral: float, size: int) -> Tensor:
    """Return the vector of each row, shape (rows, 1, size); of a row without one, all its values are `neutral`."""
    like = next(vector for vector in vectors if vector is not None)
    plain = like.new_full((size,), neutral)
    return torch.stack([plain if vector is None else vector for vector in vectors]).unsqueeze(1)


def _matrices(matrices: Sequence[Tensor | None], shape: tuple[int, int]) -> Tensor:
    """Return the matrix of each row, shape (rows, *shape); a smaller one is filled up with zeros."""
    like = next(matrix for matrix in matrices if matrix is not None)
    filled: dict[int, Tensor] = {}
    for matrix in matrices:
        if id(matrix) in filled:
            continue
        if matrix is None:
            filled[id(matrix)] = like.new_zeros(shape)
        else:
            more = (shape[1] - matrix.shape[1], shape[0] - matrix.shape[0])
            filled[id(matrix)] = F.pad(matrix, (0, more[0], 0, more[1])) if any(more) else matrix
    return torch.stack([filled[id(matrix)] for matrix in matrices])
