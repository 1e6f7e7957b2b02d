"""An exponentially weighted moving average, with the exact limits of its first windows (Roberts 1959)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Detector:
    """The average E = (1 - weight) E + weight z over its standard deviation after so many windows."""

    weight: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Of the newest window."""
    numbers: ClassVar[int] = 2

    def step(self, state: np.ndarray, z: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return the average, and the number of windows that it is of."""
        return np.stack([(1 - self.weight) * state[0] + self.weight * z, state[1] + 1])

    def statistics(self, state: np.ndarray) -> np.ndarray:
        """Return the average in its own standard deviations, each way.

        The variance after t windows is weight / (2 - weight) (1 - (1 - weight)^2t).
        """
        variance = self.weight / (2 - self.weight) * (1 - (1 - self.weight) ** (2 * state[1]))
        average = np.divide(state[0], np.sqrt(variance), out=np.zeros_like(state[0]), where=variance > 0)
        return np.maximum(0.0, np.stack([average, -average]))
