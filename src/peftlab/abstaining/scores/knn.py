"""The negative distance to the k-th nearest training text, of normalised features (Sun et al. 2022, equation 3)."""

from __future__ import annotations

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.abstaining.scores import Statistics
from peftlab.errors import ConfigError

READS = "features"
RANGE = (-2.0, 0.0)  # of points on the unit sphere


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Options:
    """The options of the score."""

    k: int = Field(default=10, ge=1)
    """Which of the nearest counts."""


_AT_ONCE = 2**24
"""The most similarities that are held in memory."""


def learn(features: np.ndarray, classes: np.ndarray, k: int = 10) -> dict[str, np.ndarray]:
    """Return the normalised features of all training texts, (texts, features), in fp16: 15 MB of 20,000 x 384."""
    if k > len(features):
        raise ConfigError(
            f"out_of_scope.options.k={k}: there are {len(features)} training texts. Choose at most as many"
        )
    return {"neighbours": _normalised(features).astype(np.float16)}


def score(values: np.ndarray, statistics: Statistics, k: int = 10) -> np.ndarray:
    """Return the score of each row of features."""
    neighbours, texts = statistics["neighbours"].astype(np.float64), _normalised(values).astype(np.float64)
    norms = (neighbours**2).sum(1)
    scores = np.empty(len(texts))
    for begin in range(0, len(texts), rows := max(1, _AT_ONCE // len(neighbours))):
        some = texts[begin : begin + rows]
        squared = (some**2).sum(1)[:, None] + norms - 2.0 * (some @ neighbours.T)
        kth = np.partition(squared, k - 1, axis=1)[:, k - 1]
        scores[begin : begin + rows] = -np.sqrt(np.maximum(kth, 0))
    return scores


def _normalised(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
