"""Entropy: what the model is least decided on among all labels (Shannon 1948; Roy & McCallum 2001)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from peftlab.active_learning import ranking
from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need

SUMMARY = "the highest entropy over all labels; with many labels often worse than random"
NEEDS: frozenset[Need] = frozenset({"distributions"})
REFUSES: Mapping[Kind, str] = {}


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return those with the highest entropy, averaged over the distributions of each."""
    return ranking.highest(pool.mean(ranking.entropy(pool.distributions)), number, random)
