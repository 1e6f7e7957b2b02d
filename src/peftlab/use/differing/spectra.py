"""The singular values and vectors of a weight and of its change: how many directions does an update have?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EXACT = 1024
"""The smaller side of a matrix up to which it is decomposed exactly at once."""
DRAWN = 64
"""Singular directions of a larger matrix that are approximated first (Halko et al. 2011, algorithm 4.4)."""
TOLERANCE = 1e-6
"""The share of the squared norm that these may miss; if they miss more, the matrix is decomposed exactly."""


@dataclass(frozen=True)
class Intruders:
    """The leading directions of a fine-tuned weight that the pretrained one lacks."""

    count: int
    """How many there are."""
    closest: float
    """The least of the leading directions' largest cosines: below the threshold if there is an intruder."""


def singular_values(matrix: Tensor) -> Tensor:
    """Return the singular values of a matrix, largest first.

    Those of a large matrix of low rank, such as an update of LoRA, are those that hold all but `TOLERANCE` of its
    squared norm.
    """
    if min(matrix.shape) > EXACT:
        values = torch.svd_lowrank(matrix, DRAWN, niter=4)[1]
        if values.square().sum() >= (1 - TOLERANCE) * matrix.square().sum():
            return values
    return torch.linalg.svdvals(matrix)


def stable_rank(values: Tensor) -> float:
    """Return the squared Frobenius norm over the squared spectral norm (Rudelson & Vershynin 2007).

    It is at least 1, at most the rank, and hardly moved by small singular values.
    """
    return float(values.square().sum() / values[0].square())


def effective_rank(values: Tensor) -> float:
    """Return the exponential of the entropy of the normalised singular values (Roy & Vetterli 2007, definition 1)."""
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def intruders(before: Tensor, after: Tensor, top: int = 10, below: float = 0.5) -> Intruders:
    """Return the intruder dimensions of a fine-tuned weight (Shuttleworth et al. 2024, algorithm 1).

    An intruder is one of the `top` left singular vectors of `after` whose cosines with all left singular vectors of
    `before` are smaller than `below`. Larger matrices than `EXACT` are first decomposed approximately, which can only
    clear them: whatever looks like an intruder is decided by exact decompositions.

    Args:
        before: the pretrained weight, shape (outputs, inputs).
        after: the fine-tuned weight.
        top: how many of the leading directions are judged.
        below: the threshold of the cosines.
    """
    if min(before.shape) > max(EXACT, top):
        drawn = [torch.svd_lowrank(one, max(DRAWN, top), niter=4)[0] for one in (before, after)]
        closest = _closest(drawn[0], drawn[1], top)
        if float(closest.min()) >= below:
            return Intruders(0, float(closest.min()))
    left = [torch.linalg.svd(one, full_matrices=False)[0] for one in (before, after)]
    closest = _closest(left[0], left[1], top)
    return Intruders(int((closest < below).sum()), float(closest.min()))


def _closest(before: Tensor, after: Tensor, top: int) -> Tensor:
    """Return the largest cosine of each of the first `top` columns of `after` with the columns of `before`."""
    return (before.T @ after[:, :top]).abs().amax(0)
