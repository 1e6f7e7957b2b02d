"""Label errors by confident learning (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068), in NumPy.

Everywhere, `probabilities` are out-of-sample: of shape (units, labels), predicted by a model that was not trained on
these units; `gold` is the number of each unit's label, shape (units,). A unit is a text, or a word of a sentence.
Scores are label qualities in [0, 1]: the lower, the likelier is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

ScoreName = Literal["self_confidence", "normalized_margin", "confidence_weighted_entropy", "adjusted_self_confidence"]
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Returns the quality of each unit's label from `probabilities` and `gold`, shape (units,)."""

_SLACK = 1e-6
"""A probability this much below a threshold still reaches it, against rounding."""
_LEAST = 1e-12
"""A divisor in place of zero."""


def thresholds(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return the threshold of each label: the mean probability of the label over the units that have it.

    Returns:
        shape (labels,); infinity for a label that no unit has (equation 2 of the paper).
    """
    own, labels = self_confidence(probabilities, gold), probabilities.shape[1]
    counts = np.bincount(gold, minlength=labels)
    sums = np.bincount(gold, weights=own, minlength=labels)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def is_error(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return whether each label is an error by confident learning, shape (units,).

    It is if another label is the most probable of those that reach their threshold (off the diagonal of the confident
    joint, equation 1 of the paper), unless the label is the most probable of all.
    """
    reached = probabilities >= thresholds(probabilities, gold) - _SLACK
    confident = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return reached.any(axis=1) & (confident != gold) & (probabilities.argmax(axis=1) != gold)


def self_confidence(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return the probability of each unit's label."""
    own: np.ndarray = probabilities[np.arange(len(gold)), gold]
    return own


def normalized_margin(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return how far the label is ahead of the most probable other one, scaled from [-1, 1] to [0, 1]."""
    others = probabilities.copy()
    others[np.arange(len(gold)), gold] = -np.inf
    return (self_confidence(probabilities, gold) - others.max(axis=1) + 1) / 2


def confidence_weighted_entropy(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return log(1 + x) / x for x the normalised entropy of the prediction over the probability of the label.

    This is cleanlab's score of that name: 1 for a certain prediction of the label, near 0 for an uncertain prediction
    that hardly considers it.
    """
    logs = np.log(np.maximum(probabilities, _LEAST))
    entropy = -(probabilities * logs).sum(axis=1) / np.log(probabilities.shape[1])
    ratio = np.maximum(entropy / np.maximum(self_confidence(probabilities, gold), _LEAST), _LEAST)
    return np.log1p(ratio) / ratio


def adjusted_self_confidence(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return the probability of the label after each is compared with its threshold, so that rare labels do not lose.

    The thresholds are subtracted, and their largest is added, so that nothing is negative; then rows sum to 1 again
    (Kuan & Mueller 2022, "Model-agnostic label quality scoring to detect real-world label errors").
    """
    limits = thresholds(probabilities, gold)
    most = limits[np.isfinite(limits)].max()
    shifted = probabilities - np.minimum(limits, most) + most  # a label that no unit has gets the largest threshold
    return self_confidence(shifted / np.maximum(shifted.sum(axis=1, keepdims=True), _LEAST), gold)


SCORES: Mapping[ScoreName, Score] = {
    "self_confidence": self_confidence,
    "normalized_margin": normalized_margin,
    "confidence_weighted_entropy": confidence_weighted_entropy,
    "adjusted_self_confidence": adjusted_self_confidence,
}


def worst(scores: np.ndarray, example: np.ndarray, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of each example, that of its worst unit (Wang & Mueller 2022, https://arxiv.org/abs/2210.03920).

    Args:
        scores: of the units, shape (units,).
        example: the example that each unit belongs to, ascending, shape (units,).
        examples: the number of examples.

    Returns:
        the scores, shape (examples,), 1 for an example without units; and the worst unit of each, -1 for none.
    """
    of_each, unit = np.ones(examples), np.full(examples, -1)
    order = np.lexsort((scores, example))
    first = np.unique(example[order], return_index=True)
    of_each[first[0]], unit[first[0]] = scores[order[first[1]]], order[first[1]]
    return of_each, unit
