"""The negative squared Mahalanobis distance to the nearest class mean, of one covariance for all classes (Lee et al.
2018, equation 2).

The covariance is that of the features around the means of their classes, shrunk towards a multiple of the identity:
with as many features as a class has texts, the plain one is near singular.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.abstaining.scores import Statistics
from peftlab.errors import ConfigError

_NONE = 1e-12
"""The share of their squares that features differ by where they differ by rounding alone."""

READS = "features"
RANGE = (-math.inf, 0.0)


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Options:
    """The options of the score."""

    shrinkage: float | None = Field(default=None, ge=0, le=1)
    """The share of the identity in the covariance; None: as estimated by Ledoit & Wolf."""


def learn(features: np.ndarray, classes: np.ndarray, shrinkage: float | None = None) -> dict[str, np.ndarray]:
    """Return the ``means`` of the classes that occur, (classes, features), both they and features times ``whitening``,
    (features, features), so that the distance is Euclidean, and the ``shrinkage``.

    Args:
        features: of the training texts.
        classes: of the same.
        shrinkage: the share of the identity, 0 to 1; None: as estimated by Ledoit & Wolf (2004, section 3.3).

    Raises:
        ConfigError: no text differs from the mean of its class, as where each class has one.
    """
    features = features.astype(np.float64)
    present, of = np.unique(classes, return_inverse=True)
    means = np.stack([features[of == number].mean(0) for number in range(len(present))])
    centred = features - means[of]
    if (centred**2).sum() <= _NONE * (features**2).sum():
        raise ConfigError(
            "out_of_scope.score=mahalanobis: it measures by how far the training texts of a class are apart, and none "
            "has two that differ. Train on more of each (budget.per_class), or use knn, or energy"
        )
    covariance = centred.T @ centred / len(centred)
    share = ledoit_wolf(centred) if shrinkage is None else shrinkage
    covariance = (1 - share) * covariance + share * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(np.maximum(values, values.max() * 1e-10))).astype(np.float32)
    return {
        "means": (means @ whitening).astype(np.float32),
        "whitening": whitening,
        "shrinkage": np.asarray([share], dtype=np.float32),
    }


def score(values: np.ndarray, statistics: Statistics, shrinkage: float | None = None) -> np.ndarray:
    """Return the score of each row of features."""
    texts = values.astype(np.float64) @ statistics["whitening"].astype(np.float64)
    means = statistics["means"].astype(np.float64)
    squared = (texts**2).sum(1)[:, None] + (means**2).sum(1) - 2.0 * (texts @ means.T)
    return -np.maximum(squared.min(axis=1), 0)


def ledoit_wolf(centred: np.ndarray) -> float:
    """Return the share of the identity that minimises the expected squared error of the covariance.

    Args:
        centred: features around their means, (texts, features).
    """
    texts, size = centred.shape
    covariance = centred.T @ centred / texts
    squared = (covariance**2).sum()
    apart = squared - np.trace(covariance) ** 2 / size  # the squared distance from the multiple of the identity
    noise = min((((centred**2).T @ (centred**2)).sum() / texts - squared) / texts, apart)
    return float(noise / apart) if noise > 0 else 0.0
