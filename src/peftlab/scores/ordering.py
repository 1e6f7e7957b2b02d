"""How well scores order what happened before what did not. No torch."""

from __future__ import annotations

import math

import numpy as np


def auc(scores: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the probability that an example in which it happened has the larger score, ties counted half.

    That is the area under the ROC curve, and does not depend on how many there are of each kind (Hanley & McNeil 1982).

    Args:
        scores: shape (examples,).
        happened: whether it did, booleans of the same shape.
        weights: of the examples; None: they count alike.

    Returns:
        the probability; NaN where one kind is missing.
    """
    positive, negative = weights_by_score(scores, happened, weights)
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else math.nan


def weights_by_score(
    scores: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of both kinds of examples at each distinct score, from the smallest; arguments as of `auc`."""
    whole = np.ones(len(happened)) if weights is None else weights
    _, place = np.unique(scores, return_inverse=True)
    positive, negative = (np.bincount(place, weights=whole * kind) for kind in (happened, ~happened))
    return positive, negative
