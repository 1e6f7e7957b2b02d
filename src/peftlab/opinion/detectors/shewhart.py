"""The window by itself: for large shifts, and nothing remembered (Shewhart 1931)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Detector:
    """How many standard errors the last window is away."""

    numbers: ClassVar[int] = 1

    def step(self, state: np.ndarray, z: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return the window's value."""
        return z[None]

    def statistics(self, state: np.ndarray) -> np.ndarray:
        """Return it, each way."""
        return np.maximum(0.0, np.stack([state[0], -state[0]]))
