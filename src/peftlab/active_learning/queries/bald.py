"""BALD: what draws of the model disagree on (Houlsby et al. 2011; by dropout, Gal et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need
from peftlab.active_learning.ranking import entropy, highest

SUMMARY = "the highest mutual information of label and model, by dropout (Gal et al. 2017)"
NEEDS: frozenset[Need] = frozenset({"samples"})
REFUSES: Mapping[Kind, str] = {}


def information(samples: np.ndarray) -> np.ndarray:
    """Return the entropy of the mean distribution minus the mean entropy, in nats, shape (distributions,).

    It is that of label and weights given the text (Houlsby et al. 2011, equation 2): 0 where all draws agree.

    Args:
        samples: shape (draws, distributions, classes).
    """
    return entropy(samples.mean(0)) - entropy(samples).mean(0)


def choose(pool: Observed, labelled: Observed, number: int, random: np.random.Generator) -> np.ndarray:
    """Return those with the highest information, averaged over the distributions of each."""
    assert pool.samples is not None
    return highest(pool.mean(information(pool.samples)), number, random)
