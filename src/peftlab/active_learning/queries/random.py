"""Random: what every other query has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need

SUMMARY = "any, with equal chances: the baseline"
NEEDS: frozenset[Need] = frozenset()
REFUSES: Mapping[Kind, str] = {}


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return a random sample in random order."""
    return random.permutation(len(pool))[:number]
