"""BADGE: texts whose gradients would be large and different (Ash et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need

SUMMARY = "large and different gradients of the head's last layer, by k-means++ (Ash et al. 2020)"
NEEDS: frozenset[Need] = frozenset({"distributions", "embeddings"})
REFUSES: Mapping[Kind, str] = {
    "ner": "its gradient is that of one label a text; for sentences take mnlp, breaking_ties or coreset"
}


def residuals(pool: Observed) -> np.ndarray:
    """Return p - e of each example, e the most probable label: the gradient of the loss by the logits.

    Of several labels, those of each side by side. Shape (examples, distributions of each x classes).
    """
    probabilities = pool.whole()
    most = np.eye(probabilities.shape[-1])[probabilities.argmax(-1)]
    return (probabilities - most).reshape(len(pool), -1)


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return centres as k-means++ draws them (Arthur & Vassilvitskii 2007) from the gradients (p - e) h'.

    The first is drawn with equal chances, each next one with the square of its distance to the nearest centre. The
    gradients have classes x hidden numbers, and are never computed: their products are those of p - e and of h.
    """
    assert pool.embeddings is not None
    residual, hidden = residuals(pool), pool.embeddings.astype(np.float64)
    sizes = np.square(residual).sum(-1) * np.square(hidden).sum(-1)
    centre = int(random.integers(len(pool)))
    chosen, nearest = [centre], np.full(len(pool), np.inf)
    for _ in range(number - 1):
        products = (residual @ residual[centre]) * (hidden @ hidden[centre])
        nearest = np.minimum(nearest, np.maximum(sizes + sizes[centre] - 2 * products, 0))
        nearest[chosen] = 0
        if (total := nearest.sum()) > 0:
            centre = int(random.choice(len(pool), p=nearest / total))
        else:  # all others are copies of those chosen
            centre = int(random.choice(np.setdiff1d(np.arange(len(pool)), chosen)))
        chosen.append(centre)
    return np.asarray(chosen)
