"""Cumulative sums: of small shifts that last, the fastest (Page 1954; optimal by Moustakides 1986)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Detector:
    """Two one-sided sums, max(0, C + z - k) and max(0, C - z - k)."""

    k: Annotated[float, Field(ge=0)] | None = None
    """What is taken off in each window, in standard errors; null: half of `shift`."""
    numbers: ClassVar[int] = 2

    def step(self, state: np.ndarray, z: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return the sums after a window."""
        allowance = k if self.k is None else self.k
        return np.maximum(0.0, np.stack([state[0] + z - allowance, state[1] - z - allowance]))

    def statistics(self, state: np.ndarray) -> np.ndarray:
        """Return both sums."""
        return state
