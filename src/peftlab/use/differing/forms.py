"""The form of a change of a weight: is it a scaling or a rotation, whatever method made it?

Each share says how much of the squared norm of the change the best change of that form explains. It is 1 for a method
that does nothing else, such as IA3 (scaling) and OFT (rotation), and not 0 for others: of a small random change of a
square matrix, the best rotation explains half.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

MOST = 2048
"""The smaller side of a matrix up to which the best rotations are computed: they need all singular values."""


class Form(NamedTuple):
    """The form of the change of a weight of shape (outputs, inputs)."""

    scales_outputs: float
    """The share of the change that factors on the outputs explain, as in IA3's attention and in DoRA's magnitudes."""
    scales_inputs: float
    """The share that factors on the inputs explain."""
    rotates_inputs: float | None
    """The share that a rotation of the inputs explains, as in OFT and HRA; None: the matrix is larger than `MOST`."""
    rotates_outputs: float | None
    """The share that a rotation of the outputs explains, as in RoAd."""
    angle: float
    """The mean angle between the weights of an output before and after, in degrees."""
    factor: float
    """The mean of the best factors on the outputs."""
    spread: float
    """The standard deviation of these factors."""


def form_of(before: Tensor, after: Tensor) -> Form:
    """Return the form of the change from `before` to `after`, which differ, both of shape (outputs, inputs)."""
    before, after = before.double(), after.double()
    change = (after - before).square().sum()
    factors = _factors(before, after)
    rotates = min(before.shape) <= MOST
    return Form(
        scales_outputs=_share(_unscaled(before, after), change),
        scales_inputs=_share(_unscaled(before.T, after.T), change),
        rotates_inputs=_share(_unrotated(before, after), change) if rotates else None,
        rotates_outputs=_share(_unrotated(before.T, after.T), change) if rotates else None,
        angle=_mean_angle(before, after),
        factor=float(factors.mean()),
        spread=float(factors.std(unbiased=False)),
    )


def _share(left: Tensor, change: Tensor) -> float:
    return min(max(1 - float(left / change), 0.0), 1.0)  # rounding may leave it just outside


def _factors(before: Tensor, after: Tensor) -> Tensor:
    """Return the factor on each row of `before` that comes nearest to that of `after`; 1 for a row of zeros."""
    squares = before.square().sum(1)
    return torch.where(squares > 0, (before * after).sum(1) / squares.clamp(min=1e-300), 1.0)


def _unscaled(before: Tensor, after: Tensor) -> Tensor:
    """Return the squared norm of what the best factors on the rows leave of the change."""
    return (after - _factors(before, after)[:, None] * before).square().sum()


def _unrotated(before: Tensor, after: Tensor) -> Tensor:
    """Return the squared norm of what the best orthogonal matrix on the right leaves of the change.

    It is the distance of the orthogonal Procrustes problem, ||A||² + ||B||² - 2 ||A^T B||_* (Schönemann 1966).
    """
    product = before.T @ after if before.shape[0] >= before.shape[1] else _small(before, after)
    nuclear = torch.linalg.svdvals(product).sum()
    return before.square().sum() + after.square().sum() - 2 * nuclear


def _small(before: Tensor, after: Tensor) -> Tensor:
    """Return a small matrix with the non-zero singular values of ``before.T @ after``, for matrices wider than high."""
    one, other = (torch.linalg.qr(matrix.T, mode="r")[1] for matrix in (before, after))
    return one @ other.T


def _mean_angle(before: Tensor, after: Tensor) -> float:
    """Return the mean angle between the rows of two matrices, in degrees; exact for small angles too."""
    kept = (before.norm(dim=1) > 0) & (after.norm(dim=1) > 0)
    one, other = (torch.nn.functional.normalize(matrix[kept], dim=1) for matrix in (before, after))
    half = torch.atan2((one - other).norm(dim=1), (one + other).norm(dim=1))
    return math.degrees(2 * float(half.mean())) if len(half) else 0.0
