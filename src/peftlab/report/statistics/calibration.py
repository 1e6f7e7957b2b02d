"""Do probabilities mean what they say? Reliability by bins, and proper scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_PROBABILITY = 1e-12
"""Taken for smaller ones, as records round: a probability of 0 would make the likelihood infinite."""


@dataclass(frozen=True)
class Bin:
    """The predictions whose confidence lies in an interval; the last one includes its upper end."""

    low: float
    high: float
    number: int
    confidence: float | None
    """Mean probability of the predicted class; None in an empty bin."""
    accuracy: float | None
    """Share of right predictions."""


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of a classifier fit what happens."""

    bins: tuple[Bin, ...]
    ece: float
    """Expected calibration error: mean distance of confidence and accuracy over the bins, weighted by their numbers.
    It depends on the number of bins, and is above 0 for a finite sample even of a calibrated classifier."""
    brier: float
    """Mean squared distance of the probabilities from the truth, summed over the classes; from 0 to 2."""
    nll: float
    """Mean negative log likelihood, in nats."""
    number: int


def calibration(probabilities: np.ndarray, gold: np.ndarray, bins: int = 15) -> Calibration:
    """Return the calibration of predicted distributions.

    The bins are equally wide; ECE as in Naeini et al. (2015) and Guo et al. (2017, equation 3), the Brier score as in
    Brier (1950).

    Args:
        probabilities: shape (predictions, classes); rows sum to 1.
        gold: indices of the true classes, shape (predictions,).
        bins: how many.

    Raises:
        ValueError: there is no prediction, the shapes do not fit, or a row does not sum to 1.
    """
    number, rows = len(probabilities), np.arange(len(probabilities))
    if not number or probabilities.ndim != 2 or gold.shape != (number,):
        raise ValueError(f"probabilities of shape {probabilities.shape} do not fit {gold.shape} true classes")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise ValueError("the probabilities of a prediction do not sum to 1")
    predicted = probabilities.argmax(axis=1)
    confidence, right = probabilities[rows, predicted], predicted == gold
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    sums = (np.bincount(places, weights=values, minlength=bins) for values in (confidence, right.astype(np.float64)))
    confidences, accuracies = (total / np.maximum(counts, 1) for total in sums)
    truth = np.zeros_like(probabilities)
    truth[rows, gold] = 1
    return Calibration(
        bins=tuple(
            Bin(
                low=float(edges[place]),
                high=float(edges[place + 1]),
                number=int(counts[place]),
                confidence=float(confidences[place]) if counts[place] else None,
                accuracy=float(accuracies[place]) if counts[place] else None,
            )
            for place in range(bins)
        ),
        ece=float((np.abs(confidences - accuracies) * counts).sum() / number),
        brier=float(((probabilities - truth) ** 2).sum() / number),
        nll=float(-np.log(np.maximum(probabilities[rows, gold], LEAST_PROBABILITY)).mean()),
        number=number,
    )
