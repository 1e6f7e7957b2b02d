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


def divergences(pool: Observed, labelled: Observed, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Return the mean of KL(p of a neighbour || p of the candidate) over the nearest labelled ones, in nats.

    They are nearest by the Euclidean distance of the embeddings (algorithm 1). Of several labels, the divergences are
    averaged. Shape (candidates,).
    """
    from scipy.spatial.distance import cdist
    from scipy.special import rel_entr

    assert pool.embeddings is not None
    assert labelled.embeddings is not None
    distances = cdist(pool.embeddings, labelled.embeddings)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :neighbours]
    floor = np.finfo(np.float32).tiny  # probabilities in fp32 may be rounded to 0
    mine, theirs = np.maximum(pool.whole(), floor), labelled.whole()
    scores = [rel_entr(theirs[places], mine[n]).sum(-1).mean() for n, places in enumerate(nearest)]
    return np.asarray(scores)


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return those with the largest divergence."""
    return highest(divergences(pool, labelled), number, random)
