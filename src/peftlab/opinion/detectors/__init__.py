"""When is a series no longer what it was? One file a detector, each with a class `Detector`.

All work on whole arrays of series, and of simulated streams: what happens to a real stream happens in the simulation.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Protocol

import numpy as np


class Detection(Protocol):
    """What each module's `Detector` offers: a chart of standardised values that is 0 where nothing has been seen."""

    numbers: int
    """How many it remembers of a series."""

    def step(self, state: np.ndarray, z: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return the state after a window.

        Args:
            state: shape (numbers, ...); zeros at the start.
            z: the standardised values of the window, shape (...).
            k: half of the shift that is to be found fast, in standard errors, shape (...).
        """

    def statistics(self, state: np.ndarray) -> np.ndarray:
        """Return how much speaks for a rise and for a fall, 0 or more, shape (2, ...)."""


def kinds() -> list[str]:
    """Return the names of the detectors."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def chosen(kind: str) -> Any:
    """Return the class of a detector."""
    return importlib.import_module(f"{__name__}.{kind}").Detector
