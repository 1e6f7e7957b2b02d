"""The order of candidates by a score, with ties broken by chance, and entropies."""

from __future__ import annotations

import numpy as np


def highest(scores: np.ndarray, number: int, random: np.random.Generator) -> np.ndarray:
    """Return the places of the `number` highest of `scores`, (candidates,), the highest first; ties by chance.

    Without chance, ties would go to the first in the file, which may be sorted.
    """
    chance = random.permutation(len(scores))
    return np.lexsort((chance, -scores))[:number]


def entropy(distributions: np.ndarray) -> np.ndarray:
    """Return the entropy in nats of each distribution, (..., classes), shape (...)."""
    logs = np.log(distributions, out=np.zeros_like(distributions), where=distributions > 0)
    return -(distributions * logs).sum(-1)
