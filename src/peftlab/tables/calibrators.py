"""What a margin means as a probability, learnt on the validation rows: a sigmoid, or steps that never fall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit, logit

Kind = Literal["platt", "isotonic", "none"]


@dataclass(frozen=True)
class Sigmoid:
    """Probabilities by a sigmoid of the margin; with slope 1 and shift 0 those of the model itself."""

    slope: float = 1.0
    shift: float = 0.0

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Return the probability of each margin."""
        return expit(self.slope * margins + self.shift)


@dataclass(frozen=True)
class Steps:
    """Probabilities between the points of a line that never falls; beyond the last points those stay."""

    margins: tuple[float, ...]
    values: tuple[float, ...]

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Return the probability of each margin."""
        return np.interp(margins, self.margins, self.values)


def calibrated(kind: Kind, margins: np.ndarray, y: np.ndarray) -> Sigmoid | Steps:
    """Learn what margins mean.

    Platt (1999), with his targets, which are never quite 0 or 1, but never falling: margins that rank the rows worse
    than chance all mean the same probability, and are not turned round. Isotonic as Zadrozny & Elkan (2002), whose
    steps of 0 and 1 are drawn in by half a row, for no number of rows shows that something never happens.

    Args:
        kind: how; ``none``: the model's own probabilities.
        margins: log odds of the validation rows, shape (rows,).
        y: what happened.
    """
    if kind == "none":
        return Sigmoid()
    if kind == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        line = IsotonicRegression(out_of_bounds="clip").fit(margins, y.astype(np.float64))
        half = 0.5 / len(y)
        values = np.clip(line.y_thresholds_, half, 1 - half)
        return Steps(tuple(line.X_thresholds_.tolist()), tuple(values.tolist()))
    from scipy.optimize import minimize

    happened = y.sum()
    target = np.where(y, (happened + 1) / (happened + 2), 1 / (len(y) - happened + 2))

    def loss(of: np.ndarray) -> tuple[float, np.ndarray]:
        at = of[0] * margins + of[1]
        error = expit(at) - target
        return float((np.logaddexp(0, at) - target * at).sum()), np.array([(error * margins).sum(), error.sum()])

    slope, shift = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return Sigmoid(float(slope), float(shift)) if slope > 0 else Sigmoid(0.0, float(logit(target.mean())))


def of_json(document: Mapping[str, Any]) -> Sigmoid | Steps:
    """Return the calibrator of which `dataclasses.asdict` was written.

    Raises:
        KeyError, TypeError: it is none.
    """
    if "slope" in document:
        return Sigmoid(**document)
    return Steps(tuple(document["margins"]), tuple(document["values"]))
