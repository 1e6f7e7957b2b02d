"""The negative free energy T log sum exp(logits / T) (Liu et al. 2020, equation 4, which has the other sign)."""

from __future__ import annotations

import math

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.abstaining.scores import Statistics

READS = "logits"
RANGE = (-math.inf, math.inf)


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
    return temperature * np.logaddexp.reduce(values.astype(np.float64) / temperature, axis=1)
