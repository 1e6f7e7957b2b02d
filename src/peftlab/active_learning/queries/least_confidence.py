"""Least confidence: what the model is least sure of (Lewis & Gale 1994)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need
from peftlab.active_learning.ranking import highest

SUMMARY = "the least probability of the most probable label (Lewis & Gale 1994)"
NEEDS: frozenset[Need] = frozenset({"distributions"})
REFUSES: Mapping[Kind, str] = {}


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return those with the highest 1 - max p, averaged over the distributions of each."""
    return highest(pool.mean(1 - pool.distributions.max(-1)), number, random)
