"""Scores that tell members from others: more speaks for a member. NumPy alone."""

from __future__ import annotations

import numpy as np

ENOUGH = 32
"""Shadow models with an example, and as many without, from which its own variance is better than the mean of all
(Carlini et al. 2022, section VI-C)."""
_LEAST = 2.0**-25
"""The least loss, half of what fp32 tells from 0 where it subtracts logarithms: that of 0 has no finite confidence."""


def confidence(losses: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) of p = exp(-loss), which is about normally distributed over models.

    See Carlini et al. (2022), "Membership Inference Attacks From First Principles", https://arxiv.org/abs/2112.03570,
    equation 4, for the probability of the gold label; where an example has several parts, p is their geometric mean.
    """
    losses = np.maximum(losses, _LEAST)
    odds: np.ndarray = -losses - np.log(-np.expm1(-losses))
    return odds


def loss(confidences: np.ndarray) -> np.ndarray:
    """Return the attack by the loss alone (Yeom et al. 2018, https://arxiv.org/abs/1709.01604, adversary 2)."""
    return confidences


def reference(confidences: np.ndarray, others: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return how much more confident the model is than models that have not seen the example.

    See Watson et al. (2022), https://arxiv.org/abs/2111.08440, and Mireshghallah et al. (2022),
    https://arxiv.org/abs/2203.03929.

    Args:
        confidences: of the attacked model, shape (examples,).
        others: of the reference models, shape (models, examples).
        seen: whether a reference model was trained on an example, of the same shape.

    Returns:
        shape (examples,); nan for an example that every reference model has seen.
    """
    return confidences - mean_over(others, ~seen)


def lira_offline(confidences: np.ndarray, others: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the likelihood ratio attack without shadow models of the example (Carlini et al. 2022, section VI-B).

    The arguments and the result are as of `reference`; the score is the standard score of the confidence among those of
    the shadow models that have not seen the example, and rises with the probability of equation 5.
    """
    return (confidences - mean_over(others, ~seen)) / np.sqrt(_variance(others, ~seen))


def lira_online(confidences: np.ndarray, others: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the likelihood ratio attack with shadow models of both kinds (Carlini et al. 2022, algorithm 1).

    The arguments and the result are as of `reference`, nan also for an example that no shadow model has seen; the score
    is the logarithm of the ratio of two normal densities.
    """
    inside, outside = (_log_density(confidences, others, which) for which in (seen, ~seen))
    return inside - outside


def _log_density(values: np.ndarray, others: np.ndarray, which: np.ndarray) -> np.ndarray:
    variance = _variance(others, which)
    density: np.ndarray = -0.5 * (np.log(variance) + (values - mean_over(others, which)) ** 2 / variance)
    return density


def mean_over(values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return the mean of the values of the chosen models for each example, shape (examples,); nan without any."""
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.where(which, values, 0.0).sum(axis=0) / which.sum(axis=0)
    return mean


def _variance(values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return the variance over models, shape (examples,): the mean of all, unless there are `ENOUGH` models."""
    numbers = which.sum(axis=0)
    squares = np.where(which, (values - mean_over(values, which)) ** 2, 0.0).sum(axis=0)
    together = np.nansum(squares) / max((numbers - 1).clip(0).sum(), 1)
    own = squares / np.maximum(numbers - 1, 1)
    return np.maximum(np.where(numbers >= ENOUGH, own, together), 1e-12)
