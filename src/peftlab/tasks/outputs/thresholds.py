"""The probability from which a label is given: set by hand, or learnt on the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from peftlab.errors import ConfigError, did_you_mean
from peftlab.tasks.losses.class_weights import with_texts_as_keys

USUAL = 0.5
"""The threshold without another: a label is given if it is more probable than not."""

FEWEST_POSITIVES = 10
"""With fewer positive examples in the validation split, no threshold is learnt: it would fit noise."""

Probability = Annotated[float, Field(ge=0, le=1)]
Threshold = Annotated[Literal["auto"] | Probability | dict[str, Probability], BeforeValidator(with_texts_as_keys)]


def chosen_thresholds(threshold: float | Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """Return the threshold of each label that a configuration names: one for all, or by label, `USUAL` for the others.

    Raises:
        ConfigError: there is no such label.
    """
    if not isinstance(threshold, Mapping):
        return dict.fromkeys(labels, float(threshold))
    for name in threshold:
        if name not in labels:
            raise ConfigError(
                f"task.threshold: there is no label '{name}'.{did_you_mean(name, labels)} Allowed: {', '.join(labels)}"
            )
    return dict.fromkeys(labels, USUAL) | {label: float(value) for label, value in threshold.items()}


def learnt_thresholds(
    probabilities: np.ndarray, gold: np.ndarray, labels: Sequence[str], by_label: bool
) -> dict[str, float]:
    """Return the thresholds with the best F1 on some answers.

    The global one has the best micro F1 over all labels, or is `USUAL` if these have fewer positives together than one
    label must have; a label's own has the best F1 of the label. Where the best F1
    spans an interval of thresholds, it is the middle between two probabilities that is nearest to `USUAL`.

    Args:
        probabilities: of each label, shape (examples, labels).
        gold: whether the example has the label, of the same shape.
        labels: in the order of the columns.
        by_label: whether each label gets its own; one with fewer than `FEWEST_POSITIVES` gets the global one.
    """
    overall = best_threshold(probabilities.ravel(), gold.ravel()) if gold.sum() >= FEWEST_POSITIVES else USUAL
    of_label = dict.fromkeys(labels, overall)
    if by_label:
        for column, label in enumerate(labels):
            if gold[:, column].sum() >= FEWEST_POSITIVES:
                of_label[label] = best_threshold(probabilities[:, column], gold[:, column])
    return of_label


def best_threshold(probabilities: np.ndarray, gold: np.ndarray) -> float:
    """Return the threshold with the best F1, `USUAL` without a positive: a probability of at least that is positive.

    Args:
        probabilities: shape (decisions,).
        gold: whether each is positive, shape (decisions,).
    """
    if not gold.any():
        return USUAL
    order = np.argsort(-probabilities, kind="stable")
    sorted_ = probabilities[order]
    last = np.flatnonzero(np.append(sorted_[1:] < sorted_[:-1], True))  # equal probabilities are given together
    correct = np.cumsum(gold[order])[last]
    f1 = 2 * correct / (last + 1 + gold.sum())
    below = np.append(sorted_[last[:-1] + 1], 0.0)
    middles = (sorted_[last] + below) / 2
    best = np.flatnonzero(f1 == f1.max())
    return float(middles[best[np.abs(middles[best] - USUAL).argmin()]])
