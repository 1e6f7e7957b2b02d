"""CAL: texts that the model judges otherwise than their labelled neighbours (Margatina et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need
from peftlab.active_learning.ranking import highest

SUMMARY = "predictions most unlike those of their labelled neighbours (Margatina et al. 2021)"
NEEDS: frozenset[Need] = frozenset({"distributions", "embeddings"})
REFUSES: Mapping[Kind, str] = {
    "ner": "it compares the distributions of two texts, and sentences have one a word; take mnlp or breaking_ties"
}

NEIGHBOURS = 10
"""As in the paper; all of them where fewer are labelled."""

_MOST_CELLS = 2**22
"""Distances that are held at once: 32 MiB."""


def divergences(pool: Observed, labelled: Observed, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Return the mean of KL(p of a neighbour || p of the candidate) over the nearest labelled ones, in nats.

    They are nearest by the Euclidean distance of the embeddings (algorithm 1). Of several labels, the divergences are
    averaged. Shape (candidates,).
    """
    from scipy.spatial.distance import cdist
    from scipy.special import rel_entr

    assert pool.embeddings is not None
    assert labelled.embeddings is not None
    floor = np.finfo(np.float32).tiny  # probabilities in fp32 may be rounded to 0
    mine, theirs = np.maximum(pool.whole(), floor), labelled.whole()
    at_once = max(1, _MOST_CELLS // max(1, len(labelled)))
    scores: list[float] = []
    for start in range(0, len(pool), at_once):
        distances = cdist(pool.embeddings[start : start + at_once], labelled.embeddings)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :neighbours]
        scores += [rel_entr(theirs[places], mine[n]).sum(-1).mean() for n, places in enumerate(nearest, start)]
    return np.asarray(scores)


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return those with the largest divergence."""
    return highest(divergences(pool, labelled), number, random)
