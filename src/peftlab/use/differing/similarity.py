"""How alike are two models' hidden states, and their attention?"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cka(first: Tensor, second: Tensor) -> float:
    """Return the debiased linear CKA of two representations of the same rows (Kornblith et al. 2019, equation 2).

    It is 1 for representations that differ by a rotation, a shift and a factor, and 0 on average for independent ones,
    of however few rows: the plain estimate is near 1 where rows are fewer than features, so HSIC is replaced by its
    unbiased estimate (Song et al. 2012, equation 5). A few distant rows can move it far (Davari et al. 2022).

    Args:
        first: shape (rows, features).
        second: shape (rows, other features).

    Returns:
        the similarity, which may be just below 0; NaN for less than four rows, or where all rows of one are equal.
    """
    one, other = (rows.double() - rows.double().mean(0) for rows in (first, second))
    if len(one) < 4:
        return math.nan
    scale = _hsic(one, one) * _hsic(other, other)
    return _hsic(one, other) / math.sqrt(scale) if scale > 0 else math.nan


def _hsic(first: Tensor, second: Tensor) -> float:
    """Return the unbiased estimate of HSIC with linear kernels, of centred representations.

    With columns that sum to zero, so do the rows of each kernel, and without its diagonal they sum to minus that. So
    the estimate needs no matrix of rows by rows.
    """
    rows = len(first)
    one, other = first.square().sum(1), second.square().sum(1)  # the diagonals of the kernels
    shared = (one * other).sum()
    trace = (first.T @ second).square().sum() - shared
    total = one.sum() * other.sum() / ((rows - 1) * (rows - 2)) - 2 * shared / (rows - 2)
    return float((trace + total) / (rows * (rows - 3)))


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of distributions over the last dimension, from 0 to 1 bit (Lin 1991)."""
    entropy = torch.special.entr
    middle = (first + second) / 2
    divergence = entropy(middle).sum(-1) - (entropy(first).sum(-1) + entropy(second).sum(-1)) / 2
    return divergence.clamp(min=0) / math.log(2)
