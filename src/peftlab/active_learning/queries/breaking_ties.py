"""Breaking ties: what the model is torn between two labels of (Luo et al. 2005; Scheffer et al. 2001: margin)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need
from peftlab.active_learning.ranking import highest

SUMMARY = "the least margin between the two most probable labels (Luo et al. 2005)"
NEEDS: frozenset[Need] = frozenset({"distributions"})
REFUSES: Mapping[Kind, str] = {}


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return those with the least p1 - p2, the highest 1 - (p1 - p2), averaged over the distributions of each."""
    second, first = np.partition(pool.distributions, (-2, -1), axis=-1)[:, -2:].T
    return highest(pool.mean(1 - (first - second)), number, random)
