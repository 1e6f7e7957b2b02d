"""MNLP: maximum normalised log-probability of a tag sequence (Shen et al. 2018, equation 4)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need
from peftlab.active_learning.ranking import highest

SUMMARY = "sentences whose best tags have the least mean log-probability (Shen et al. 2018)"
NEEDS: frozenset[Need] = frozenset({"distributions"})
_ONE = "it divides by the number of words of a sentence; for whole texts it would be least_confidence, take that"
REFUSES: Mapping[Kind, str] = {"classification": _ONE, "several labels": _ONE}


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return those with the lowest mean of log max p over the words.

    The sum, without the normalisation, would ask for the longest sentences.
    """
    return highest(pool.mean(-np.log(pool.distributions.max(-1))), number, random)
