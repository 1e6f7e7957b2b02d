"""Core-set: what is farthest from all that is labelled, one after another (Sener & Savarese 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need

SUMMARY = "the farthest from all labelled ones, greedily: k-centre (Sener & Savarese 2018)"
NEEDS: frozenset[Need] = frozenset({"embeddings"})
REFUSES: Mapping[Kind, str] = {}


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return the greedy k-centre of the Euclidean distances (algorithm 1), ties by chance."""
    assert pool.embeddings is not None
    assert labelled.embeddings is not None
    order = random.permutation(len(pool))  # argmax takes the first of equals
    points = pool.embeddings[order].astype(np.float64)
    nearest = np.full(len(points), np.inf)
    for centre in labelled.embeddings.astype(np.float64):
        np.minimum(nearest, _distances(points, centre), out=nearest)
    chosen = []
    for _ in range(number):
        farthest = int(nearest.argmax())
        chosen.append(farthest)
        np.minimum(nearest, _distances(points, points[farthest]), out=nearest)
        nearest[farthest] = -1.0  # below the distance of copies, 0
    return order[chosen]


def _distances(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the squared distances of `points`, (points, hidden), from `centre`: differences, for copies to be at 0."""
    return np.square(points - centre).sum(-1)
