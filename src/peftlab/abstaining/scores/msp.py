"""The probability of the most probable class (Hendrycks & Gimpel 2017); with a temperature, as in ODIN."""

from __future__ import annotations

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.abstaining.scores import Statistics

READS = "logits"
RANGE = (0.0, 1.0)


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Options:
    """The options of the score."""

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Divides the logits."""


def learn(features: np.ndarray, classes: np.ndarray, temperature: float = 1.0) -> dict[str, np.ndarray]:
    """Return nothing: the score needs no statistics."""
    return {}


def score(values: np.ndarray, statistics: Statistics, temperature: float = 1.0) -> np.ndarray:
    """Return the score of each row of logits."""
    scaled = values.astype(np.float64) / temperature
    return np.exp(scaled.max(axis=1) - np.logaddexp.reduce(scaled, axis=1))
